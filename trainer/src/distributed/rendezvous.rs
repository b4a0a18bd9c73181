//! How processes that have nothing but a network find each other, and learn that one of them is gone.
//!
//! The process of rank 0 waits at `MASTER_ADDR`:`MASTER_PORT` (the names that torchrun uses too); the others connect
//! and get what it has to tell. The connections stay open: a process that dies closes them, whatever it died
//! of, and then the others end as well instead of waiting for it.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{DistributedError, Launch};

/// How long processes wait for each other.
const MEETING_TIMEOUT: Duration = Duration::from_secs(120);
/// Time between two attempts.
const PAUSE: Duration = Duration::from_millis(20);
/// What a process says first, so that nothing else that connects is taken for one.
const GREETING: [u8; 8] = *b"lddgan/1";
/// What a process says last.
const GOODBYE: [u8; 1] = [1];

/// Where the processes meet.
pub struct Place {
    host: String,
    port: u16,
    /// Whether the host was named; otherwise all processes are on this machine.
    named: bool,
}

impl Place {
    /// From the variables `MASTER_ADDR` (default: this machine) and `MASTER_PORT` (default: 29500, as torchrun's).
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> std::result::Result<Self, DistributedError> {
        let port = variable("MASTER_PORT").unwrap_or_else(|| "29500".to_string());
        let parsed = port.parse().map_err(|_| DistributedError::Variable { name: "MASTER_PORT", value: port });
        let host = variable("MASTER_ADDR");
        let named = host.is_some();
        Ok(Self { host: host.unwrap_or_else(|| Ipv4Addr::LOCALHOST.to_string()), port: parsed?, named })
    }

    fn address(&self) -> Result<SocketAddr> {
        let mut addresses = (self.host.as_str(), self.port).to_socket_addrs()?;
        addresses.next().ok_or_else(|| Error::new(ErrorKind::NotFound, "the host has no address"))
    }

    fn failed(&self, reason: impl ToString) -> DistributedError {
        DistributedError::Rendezvous { host: self.host.clone(), port: self.port, reason: reason.to_string() }
    }
}

/// The open connections: of rank 0 one to each other process, of the others one to rank 0.
#[derive(Debug)]
pub struct Links(Vec<(usize, TcpStream)>);

/// Meets the other processes; returns what `tell` makes in the process of rank 0.
pub fn meet<const N: usize>(
    place: &Place,
    launch: &Launch,
    tell: impl FnOnce() -> std::result::Result<[u8; N], DistributedError>,
) -> std::result::Result<([u8; N], Links), DistributedError> {
    let deadline = Instant::now() + MEETING_TIMEOUT;
    if launch.rank > 0 {
        return join(place, launch, deadline).map_err(|error| place.failed(error));
    }
    let message = tell()?;
    let links = gather(place, launch, deadline).map_err(|error| place.failed(error))?;
    for (_, mut stream) in links.iter().map(|(rank, stream)| (rank, stream)) {
        stream.write_all(&message).map_err(|error| place.failed(error))?;
    }
    Ok((message, Links(links)))
}

/// Rank 0: waits for all others.
fn gather(place: &Place, launch: &Launch, deadline: Instant) -> Result<Vec<(usize, TcpStream)>> {
    let mut address = place.address()?;
    if place.named {
        // A host's own name often leads to an address that no other machine reaches.
        address.set_ip(if address.is_ipv4() {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            std::net::Ipv6Addr::UNSPECIFIED.into()
        });
    }
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let mut links: Vec<(usize, TcpStream)> = Vec::new();
    while links.len() + 1 < launch.size {
        match listener.accept() {
            Ok((stream, _)) => {
                // Anything else may connect to an open port.
                if let Some(rank) = greeted(&stream, launch.size) {
                    if links.iter().any(|(known, _)| *known == rank) {
                        let reason = format!("rank {rank} came twice: another run uses this port, set MASTER_PORT");
                        return Err(Error::new(ErrorKind::AddrInUse, reason));
                    }
                    links.push((rank, stream));
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < deadline => {
                std::thread::sleep(PAUSE);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let reason = format!("{} of {} processes came in {MEETING_TIMEOUT:?}", links.len() + 1, launch.size);
                return Err(Error::new(ErrorKind::TimedOut, reason));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(links)
}

/// The rank of a process that has just connected, unless it is none of a run of this size.
fn greeted(mut stream: &TcpStream, size: usize) -> Option<usize> {
    stream.set_nonblocking(false).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let (mut greeting, mut numbers) = ([0; GREETING.len()], [[0; 4]; 2]);
    stream.read_exact(&mut greeting).ok()?;
    stream.read_exact(numbers.as_flattened_mut()).ok()?;
    stream.set_read_timeout(None).ok()?;
    let [rank, whole] = numbers.map(|number| u32::from_le_bytes(number) as usize);
    (greeting == GREETING && whole == size && (1..size).contains(&rank)).then_some(rank)
}

/// Other ranks: goes to rank 0, which may start later.
fn join<const N: usize>(place: &Place, launch: &Launch, deadline: Instant) -> Result<([u8; N], Links)> {
    let mut stream = loop {
        match place.address().and_then(TcpStream::connect) {
            Ok(stream) => break stream,
            Err(_) if Instant::now() < deadline => std::thread::sleep(PAUSE),
            Err(error) if place.named => return Err(error),
            Err(error) => {
                let reason = format!("{error}; if the processes are on several machines, set MASTER_ADDR");
                return Err(Error::new(error.kind(), reason));
            }
        }
    };
    stream.write_all(&GREETING)?;
    stream.write_all([launch.rank, launch.size].map(|number| (number as u32).to_le_bytes()).as_flattened())?;
    let mut message = [0; N];
    stream.set_read_timeout(Some(MEETING_TIMEOUT))?;
    stream.read_exact(&mut message)?;
    stream.set_read_timeout(None)?;
    Ok((message, Links(vec![(0, stream)])))
}

/// Looks out for the ends of the other processes.
pub struct Watch {
    links: Links,
    watchers: Vec<JoinHandle<()>>,
}

impl Watch {
    /// Calls `gone` with the rank of a process that ended before it said goodbye.
    pub fn start(links: Links, gone: impl Fn(usize) + Clone + Send + 'static) -> Result<Self> {
        let watcher = |(rank, stream): &(usize, TcpStream)| {
            let (rank, mut stream, gone) = (*rank, stream.try_clone()?, gone.clone());
            Ok(std::thread::spawn(move || {
                if stream.read_exact(&mut [0; GOODBYE.len()]).is_err() {
                    gone(rank);
                }
            }))
        };
        let watchers = links.0.iter().map(watcher).collect::<Result<_>>()?;
        Ok(Self { links, watchers })
    }

    /// Says goodbye, and waits until the others have.
    pub fn end(self) {
        for (_, mut stream) in self.links.0.iter().map(|(rank, stream)| (rank, stream)) {
            // A process that cannot be told is gone, which its watcher notices.
            let _ = stream.write_all(&GOODBYE);
        }
        for watcher in self.watchers {
            let _ = watcher.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// A free port, found by asking for any.
    fn place() -> Place {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        Place::from_variables(|name| (name == "MASTER_PORT").then(|| port.clone())).unwrap()
    }

    fn process(place: &Place, rank: usize) -> ([u8; 4], Links) {
        meet(place, &Launch { rank, size: 3, local_rank: rank }, || Ok([7, 8, 9, 10])).unwrap()
    }

    /// Runs three processes, as threads; `ending` says what each does with its watch.
    fn three(ending: impl Fn(usize, Links) + Sync) {
        let place = place();
        std::thread::scope(|scope| {
            for rank in [2, 0, 1] {
                let (place, ending) = (&place, &ending);
                scope.spawn(move || {
                    let (message, links) = process(place, rank);
                    assert_eq!(message, [7, 8, 9, 10]);
                    ending(rank, links);
                });
            }
            // Something else on the network, which is not counted.
            let stranger = std::iter::repeat_with(|| place.address().and_then(TcpStream::connect));
            let _ = stranger.flatten().next().unwrap().write_all(b"GET / HTTP/1.1\r\n\r\n");
        });
    }

    #[test]
    fn all_learn_the_message_and_part_in_peace() {
        let (sender, gone) = mpsc::channel();
        three(move |_, links| {
            let sender = sender.clone();
            Watch::start(links, move |rank| sender.send(rank).unwrap()).unwrap().end();
        });
        assert_eq!(gone.iter().count(), 0);
    }

    #[test]
    fn a_process_that_dies_is_noticed_by_rank_0() {
        let (sender, gone) = mpsc::channel();
        three(move |rank, links| match rank {
            1 => drop(links),
            _ => {
                let sender = sender.clone();
                Watch::start(links, move |gone| sender.send((rank, gone)).unwrap()).unwrap().end();
            }
        });
        assert_eq!(gone.iter().collect::<Vec<_>>(), [(0, 1)]);
    }
}
