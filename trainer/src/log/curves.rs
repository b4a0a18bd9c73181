//! The picture of all losses over the training images: one panel for each.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow};
use image::RgbImage;
use plotters::coord::Shift;
use plotters::prelude::*;

use super::canvas::Canvas;
use super::losses::Line;

/// Width and height of a panel, and how many stand side by side.
const PANEL: (u32, u32) = (480, 280);
const COLUMNS: usize = 3;
/// Parts of the training that a curve is averaged over.
const BINS: usize = 200;

type Area<'a, 'b> = DrawingArea<Canvas<'a>, Shift>;

/// The steps of one part of the training.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Bin {
    images: f64,
    mean: f64,
    least: f64,
    most: f64,
}

/// Draws every number that the lines hold.
pub fn draw(lines: &[Line]) -> Result<RgbImage> {
    let mut series: BTreeMap<&str, Vec<(f64, f64)>> = BTreeMap::new();
    for line in lines {
        for (name, &value) in line.values.iter().filter(|(_, value)| value.is_finite()) {
            series.entry(name).or_default().push((line.images as f64, value));
        }
    }
    let rows = series.len().div_ceil(COLUMNS).max(1);
    let mut picture = RgbImage::new(PANEL.0 * COLUMNS as u32, PANEL.1 * rows as u32);
    let root = Canvas(&mut picture).into_drawing_area();
    // Plotters' errors do not outlive the picture.
    root.fill(&WHITE).map_err(|error| anyhow!("{error}"))?;
    let end = lines.last().map_or(0, |line| line.images).max(1) as f64;
    for (panel, (name, points)) in root.split_evenly((rows, COLUMNS)).iter().zip(&series) {
        draw_panel(panel, name, &bins(points, end), end)?;
    }
    drop(root);
    Ok(picture)
}

/// Mean and range of the points (images, value) in each part of 0..`end`.
fn bins(points: &[(f64, f64)], end: f64) -> Vec<Bin> {
    let part = |images: f64| (images / end * BINS as f64).ceil() as usize;
    let bin = |points: &[(f64, f64)]| {
        let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / points.len() as f64;
        Bin {
            images: mean(&mut points.iter().map(|point| point.0)),
            mean: mean(&mut points.iter().map(|point| point.1)),
            least: points.iter().map(|point| point.1).fold(f64::INFINITY, f64::min),
            most: points.iter().map(|point| point.1).fold(f64::NEG_INFINITY, f64::max),
        }
    };
    points.chunk_by(|a, b| part(a.0) == part(b.0)).map(bin).collect()
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

    #[test]
    fn bins_hold_mean_and_range() {
        // Three points in each of the 200 parts, with a spike in the last.
        let points: Vec<(f64, f64)> = (1..=600).map(|i| (f64::from(i), f64::from(i % 3))).collect();
        let bins = bins(&points, 600.0);
        assert_eq!(bins.len(), 200);
        assert_eq!(bins[0], Bin { images: 2.0, mean: 1.0, least: 0.0, most: 2.0 });
        assert_eq!(bins[199], Bin { images: 599.0, mean: 1.0, least: 0.0, most: 2.0 });
    }

    #[test]
    fn a_spike_does_not_press_the_curve_flat() {
        let bin = |most: f64| Bin { images: 0.0, mean: 0.5, least: 0.0, most };
        let mut bins = vec![bin(1.0); 199];
        bins.push(bin(1e9));
        assert!(range(&bins).end < 1.1);
    }

    /// Two constant numbers: two panels with a blue line at half height each, and nothing blue in the third.
    #[test]
    fn each_number_has_its_panel() {
        let line = |step: u64| Line {
            step,
            images: step * 100,
            seconds: 0.0,
            values: [("a".to_string(), 1.0), ("b".to_string(), -5.0)].into(),
        };
        let picture = draw(&(1..50).map(line).collect::<Vec<_>>()).unwrap();
        assert_eq!(picture.dimensions(), (PANEL.0 * 3, PANEL.1));
        let blue = |panel: u32| {
            let columns = panel * PANEL.0..(panel + 1) * PANEL.0;
            picture.enumerate_pixels().filter(|(x, _, p)| columns.contains(x) && p.0[2] > 200 && p.0[0] < 100).count()
        };
        assert!(blue(0) > 300 && blue(1) > 300, "{} {}", blue(0), blue(1));
        assert_eq!(blue(2), 0);
        // The outcome of no steps at all is a picture, too.
        assert_eq!(draw(&[]).unwrap().dimensions(), (PANEL.0 * 3, PANEL.1));
    }
}
