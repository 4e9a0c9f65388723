//! Which features, and their values on one image.

use std::sync::LazyLock;

use super::{ALL, Feature, MIN_SIDE, Set};
use crate::error::{Error, Result};
use crate::image::{Image, Planes};

/// The families to compute, in the order of [`ALL`], and the columns to keep of each.
pub struct Selection {
    families: Vec<Chosen>,
    names: Vec<&'static str>,
}

/// Names of the values of each family of [`ALL`], written once: writing them takes as long as half a decode.
static NAMES: LazyLock<Vec<Vec<String>>> = LazyLock::new(|| {
    let names = |feature: &&dyn Feature| {
        let family = feature.about().name;
        feature.columns().iter().map(|column| format!("{family}.{column}")).collect()
    };
    ALL.iter().map(names).collect()
});

struct Chosen {
    feature: &'static dyn Feature,
    dimension: usize,
    /// Columns to keep, ascending; `None` keeps all.
    columns: Option<Vec<usize>>,
}

impl Selection {
    /// Names of the values, `family.column`, in the order of [`extract`].
    pub fn names(&self) -> &[&'static str] {
        &self.names
    }

    /// How many values an image gives.
    pub fn dimension(&self) -> usize {
        self.names.len()
    }
}

/// Resolves names: `default`, `all`, a family (`radial`) or one column (`radial.luma_r01`).
///
/// The order of the result is the order of [`ALL`], whatever the order asked for, and nothing comes twice. Fails with
/// [`Error::Argument`] on an unknown name or an empty list.
pub fn select<S: AsRef<str>>(names: &[S]) -> Result<Selection> {
    let mut known = vec![false; names.len()];
    let mut selection = Selection { families: Vec::new(), names: Vec::new() };
    for (&feature, columns) in ALL.iter().zip(NAMES.iter()) {
        let about = feature.about();
        let mut keep = vec![false; columns.len()];
        for (name, known) in names.iter().map(AsRef::as_ref).zip(&mut known) {
            if name == "all" || name == about.name || (name == "default" && about.set == Set::Default) {
                keep.fill(true);
                *known = true;
            } else if let Some(column) = columns.iter().position(|column| column == name) {
                keep[column] = true;
                *known = true;
            }
        }
        if keep.contains(&true) {
            let whole = keep.iter().all(|&kept| kept);
            let kept: Vec<usize> = (0..columns.len()).filter(|&i| keep[i]).collect();
            selection.names.extend(kept.iter().map(|&i| columns[i].as_str()));
            selection.families.push(Chosen {
                feature,
                dimension: columns.len(),
                columns: if whole { None } else { Some(kept) },
            });
        }
    }
    match known.iter().position(|known| !known) {
        Some(i) => Err(Error::argument("features", unknown(names[i].as_ref()))),
        None if names.is_empty() => Err(Error::argument("features", "no feature is named")),
        None => Ok(selection),
    }
}

fn unknown(name: &str) -> String {
    let families: Vec<&str> = ALL.iter().map(|feature| feature.about().name).collect();
    format!("no feature is called {name:?}; there are default, all, {} and their columns", families.join(", "))
}

/// The values of `selection` on `image`, called `name` in errors; [`Error::TooSmall`] under [`MIN_SIDE`].
pub fn extract(name: &str, image: &Image, selection: &Selection) -> Result<Vec<f32>> {
    let (width, height) = (image.width(), image.height());
    if width.min(height) < MIN_SIDE {
        return Err(Error::TooSmall { input: name.into(), width, height, min: MIN_SIDE });
    }
    let planes = Planes::new(image);
    let mut values = Vec::with_capacity(selection.dimension());
    let mut whole = Vec::new();
    for chosen in &selection.families {
        if let Some(columns) = &chosen.columns {
            whole.clear();
            whole.resize(chosen.dimension, 0.0);
            chosen.feature.compute(&planes, &mut whole);
            values.extend(columns.iter().map(|&column| whole[column]));
        } else {
            let start = values.len();
            values.resize(start + chosen.dimension, 0.0);
            chosen.feature.compute(&planes, &mut values[start..]);
        }
    }
    Ok(values)
}
