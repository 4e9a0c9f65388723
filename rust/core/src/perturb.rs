//! What happens to an image on its way to a viewer.
