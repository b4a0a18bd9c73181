//! Making the next batch while the present one is computed with.

use std::sync::mpsc::{IntoIter, sync_channel};

/// The same items, made by a thread of their own, one ahead of whoever takes them. They end where the thread does, be it
/// by a panic.
pub fn prefetch<I>(items: I) -> IntoIter<I::Item>
where
    I: Iterator<Item: Send> + Send + 'static,
{
    let (sender, receiver) = sync_channel(1);
    std::thread::spawn(move || {
        for item in items {
            if sender.send(item).is_err() {
                // Nobody wants more.
                return;
            }
        }
    });
    receiver.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_in_their_order_and_end() {
        assert_eq!(prefetch(0..100).collect::<Vec<_>>(), (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn an_item_is_made_while_the_one_before_is_in_use() {
        let (made, seen) = sync_channel(100);
        let mut items = prefetch((0..).inspect(move |item| made.send(*item).unwrap_or_default()));
        assert_eq!(items.next(), Some(0));
        // Returns only if the thread goes on without being asked for the next item.
        assert_eq!(seen.iter().take(2).collect::<Vec<_>>(), [0, 1]);
    }
}
