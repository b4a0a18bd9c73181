//! The picture of all losses over the training images: one panel for each.

use anyhow::{Result, anyhow};
use image::RgbImage;
use plotters::coord::Shift;
use plotters::prelude::*;

use super::canvas::Canvas;
use super::history::{Bin, History};

/// Width and height of a panel, and how many stand side by side.
const PANEL: (u32, u32) = (480, 280);
const COLUMNS: usize = 3;
/// Parts of the training that a curve is averaged over.
const BINS: usize = 200;

type Area<'a, 'b> = DrawingArea<Canvas<'a>, Shift>;

/// Draws every number of a run.
pub fn draw(history: &History) -> Result<RgbImage> {
    let series = history.series();
    let rows = series.len().div_ceil(COLUMNS).max(1);
    let mut picture = RgbImage::new(PANEL.0 * COLUMNS as u32, PANEL.1 * rows as u32);
    let root = Canvas(&mut picture).into_drawing_area();
    // Plotters' errors do not outlive the picture.
    root.fill(&WHITE).map_err(|error| anyhow!("{error}"))?;
    let end = history.images().max(1) as f64;
    for (panel, (name, parts)) in root.split_evenly((rows, COLUMNS)).iter().zip(series) {
        draw_panel(panel, name, &bins(&parts, end), end)?;
    }
    drop(root);
    Ok(picture)
}

/// What is in each of [`BINS`] parts of 0..`end`.
fn bins(parts: &[Bin], end: f64) -> Vec<Bin> {
    let place = |bin: &Bin| (bin.images / end * BINS as f64).ceil() as usize;
    let joined = parts.chunk_by(|a, b| place(a) == place(b));
    joined.filter_map(|parts| parts.iter().copied().reduce(Bin::and)).collect()
}

/// The values that an axis shows: all but the outermost hundredths, which would press everything else flat.
fn range(bins: &[Bin]) -> std::ops::Range<f64> {
    let mut ends: Vec<f64> = bins.iter().flat_map(|bin| [bin.least, bin.most]).collect();
    ends.sort_by(f64::total_cmp);
    let cut = ends.len() / 100;
    let least = ends.get(cut).copied().unwrap_or_default();
    let most = ends.get(ends.len().saturating_sub(1 + cut)).copied().unwrap_or_default();
    let margin = ((most - least) * 0.05).max(least.abs() * 1e-3).max(1e-6);
    least - margin..most + margin
}

fn draw_panel(area: &Area, name: &str, bins: &[Bin], end: f64) -> Result<()> {
    let fail = |error: DrawingAreaErrorKind<std::convert::Infallible>| anyhow!("{error}");
    let values = range(bins);
    let last = bins.last().map(|bin| format!("{name} {:.4}", bin.mean)).unwrap_or_default();
    area.draw_text(&last, &TextStyle::from(("monospace", 16)), (PANEL.0 as i32 / 2 - 4 * last.len() as i32, 4))
        .map_err(fail)?;
    let mut chart = ChartBuilder::on(area)
        .margin_top(24)
        .margin_right(24)
        .x_label_area_size(32)
        .y_label_area_size(72)
        .build_cartesian_2d(0.0..end, values.clone())
        .map_err(fail)?;
    let mut mesh = chart.configure_mesh();
    mesh.x_labels(5).y_labels(6).x_label_formatter(&|&images| count(images)).light_line_style(WHITE);
    mesh.draw().map_err(fail)?;
    let clamp = |value: f64| value.clamp(values.start, values.end);
    let spread = |bin: &Bin| PathElement::new([bin.least, bin.most].map(|y| (bin.images, clamp(y))), BLUE.mix(0.25));
    chart.draw_series(bins.iter().map(spread)).map_err(fail)?;
    chart.draw_series(LineSeries::new(bins.iter().map(|bin| (bin.images, clamp(bin.mean))), &BLUE)).map_err(fail)?;
    Ok(())
}

/// A number of images, short: `12k`.
fn count(images: f64) -> String {
    match images {
        images if images >= 1e6 => format!("{}M", images / 1e6),
        images if images >= 1e3 => format!("{}k", images / 1e3),
        images => format!("{images}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Line;

    fn line(images: u64, values: &[(&str, f64)]) -> Line {
        let values = values.iter().map(|&(name, value)| (name.to_string(), value)).collect();
        Line { step: images, images, seconds: 0.0, values }
    }

    #[test]
    fn bins_hold_mean_and_range() {
        // Three points in each of the 200 parts, with a spike in the last.
        let mut history = History::default();
        (1..=600).for_each(|i| history.add(&line(i, &[("a", (i % 3) as f64)])));
        let (_, parts) = history.series().next().unwrap();
        let bins = bins(&parts, 600.0);
        assert_eq!(bins.len(), 200);
        for (bin, images) in [(bins[0], 2.0), (bins[199], 599.0)] {
            assert_eq!((bin.least, bin.most, bin.count), (0.0, 2.0, 3));
            assert!((bin.images - images).abs() < 1e-9 && (bin.mean - 1.0).abs() < 1e-9, "{bin:?}");
        }
    }

    #[test]
    fn a_spike_does_not_press_the_curve_flat() {
        let bin = |most: f64| Bin { images: 0.0, mean: 0.5, least: 0.0, most, count: 1 };
        let mut bins = vec![bin(1.0); 199];
        bins.push(bin(1e9));
        assert!(range(&bins).end < 1.1);
    }

    /// Two constant numbers: two panels with a blue line at half height each, and nothing blue in the third.
    #[test]
    fn each_number_has_its_panel() {
        let mut history = History::default();
        (1..50).for_each(|step| history.add(&line(step * 100, &[("a", 1.0), ("b", -5.0)])));
        let picture = draw(&history).unwrap();
        assert_eq!(picture.dimensions(), (PANEL.0 * 3, PANEL.1));
        let blue = |panel: u32| {
            let columns = panel * PANEL.0..(panel + 1) * PANEL.0;
            picture.enumerate_pixels().filter(|(x, _, p)| columns.contains(x) && p.0[2] > 200 && p.0[0] < 100).count()
        };
        assert!(blue(0) > 300 && blue(1) > 300, "{} {}", blue(0), blue(1));
        assert_eq!(blue(2), 0);
        // The outcome of no steps at all is a picture, too.
        assert_eq!(draw(&History::default()).unwrap().dimensions(), (PANEL.0 * 3, PANEL.1));
    }
}
