//! A picture that plotters draws on, with letters from a bitmap font: no font of the system is needed.

use std::convert::Infallible;

use image::{Rgb, RgbImage};
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};
use plotters_backend::text_anchor::{HPos, VPos};
use plotters_backend::{BackendColor, BackendCoord, BackendTextStyle, DrawingBackend, DrawingErrorKind};

const WEIGHT: FontWeight = FontWeight::Regular;
const HEIGHT: RasterHeight = RasterHeight::Size16;

/// Letters are always horizontal and of one size.
pub struct Canvas<'a>(pub &'a mut RgbImage);

type Drawn = Result<(), DrawingErrorKind<Infallible>>;

/// Width and height of a line of text.
fn text_size(text: &str) -> (i32, i32) {
    ((text.chars().count() * get_raster_width(WEIGHT, HEIGHT)) as i32, HEIGHT.val() as i32)
}

impl DrawingBackend for Canvas<'_> {
    type ErrorType = Infallible;

    fn get_size(&self) -> (u32, u32) {
        self.0.dimensions()
    }

    fn ensure_prepared(&mut self) -> Drawn {
        Ok(())
    }

    fn present(&mut self) -> Drawn {
        Ok(())
    }

    fn draw_pixel(&mut self, (x, y): BackendCoord, color: BackendColor) -> Drawn {
        let place = u32::try_from(x).ok().zip(u32::try_from(y).ok());
        if let Some(Rgb(pixel)) = place.and_then(|(x, y)| self.0.get_pixel_mut_checked(x, y)) {
            let (red, green, blue) = color.rgb;
            for (below, above) in pixel.iter_mut().zip([red, green, blue]) {
                *below = (f64::from(*below) * (1.0 - color.alpha) + f64::from(above) * color.alpha).round() as u8;
            }
        }
        Ok(())
    }

    fn draw_text<S: BackendTextStyle>(&mut self, text: &str, style: &S, (x, y): BackendCoord) -> Drawn {
        let (width, height) = text_size(text);
        let left = x - match style.anchor().h_pos {
            HPos::Left => 0,
            HPos::Center => width / 2,
            HPos::Right => width,
        };
        let top = y - match style.anchor().v_pos {
            VPos::Top => 0,
            VPos::Center => height / 2,
            VPos::Bottom => height,
        };
        let letters = text.chars().filter_map(|letter| get_raster(letter, WEIGHT, HEIGHT));
        for (letter, left) in letters.zip((left..).step_by(get_raster_width(WEIGHT, HEIGHT))) {
            for (row, y) in letter.rows().zip(top..) {
                for (&strength, x) in row.iter().zip(left..) {
                    let alpha = style.color().alpha * f64::from(strength) / 255.0;
                    self.draw_pixel((x, y), BackendColor { alpha, ..style.color() })?;
                }
            }
        }
        Ok(())
    }

    fn estimate_text_size<S: BackendTextStyle>(
        &self,
        text: &str,
        _: &S,
    ) -> Result<(u32, u32), DrawingErrorKind<Infallible>> {
        let (width, height) = text_size(text);
        Ok((width as u32, height as u32))
    }
}
