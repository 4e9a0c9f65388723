//! One error for the whole core; every variant names the input it came from.

/// The name of an input: a path, or a label such as `bytes` or `array 3`.
pub type InputName = Box<str>;

/// Why an input gave no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The input holds no byte.
    #[error("{input}: empty")]
    Empty {
        /// The input.
        input: InputName,
    },
    /// The first bytes belong to no image format that is read here.
    #[error("{input}: not an image that can be read (JPEG, PNG, WebP, GIF, BMP, TIFF)")]
    NotAnImage {
        /// The input.
        input: InputName,
    },
    /// A known format in a variant that is not read.
    #[error("{input}: {format} with {what} is not supported")]
    Unsupported {
        /// The input.
        input: InputName,
        /// Its format.
        format: &'static str,
        /// The variant.
        what: String,
    },
    /// The data end before the image does.
    #[error("{input}: truncated {format}: {detail}")]
    Truncated {
        /// The input.
        input: InputName,
        /// Its format.
        format: &'static str,
        /// What the decoder said.
        detail: String,
    },
    /// The data contradict the format.
    #[error("{input}: corrupt {format}: {detail}")]
    Corrupt {
        /// The input.
        input: InputName,
        /// Its format.
        format: &'static str,
        /// What the decoder said.
        detail: String,
    },
    /// The input asks for more than the limits allow.
    #[error("{input}: {what} is {value}, over the limit of {limit}")]
    Limit {
        /// The input.
        input: InputName,
        /// What is limited: `bytes`, `pixels`, `memory`.
        what: &'static str,
        /// What the input asks for.
        value: u64,
        /// What is allowed.
        limit: u64,
    },
    /// The image is too small for what was asked.
    #[error("{input}: {width}x{height} is smaller than the {min} px that are needed")]
    TooSmall {
        /// The input.
        input: InputName,
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// Smallest side that is accepted.
        min: u32,
    },
    /// The file could not be read.
    #[error("{input}: {message}")]
    Io {
        /// The input.
        input: InputName,
        /// What the system said.
        message: String,
        /// The kind that the system gave.
        kind: std::io::ErrorKind,
    },
    /// A defect of this crate that the input brought to light.
    #[error("{input}: internal error: {message}")]
    Internal {
        /// The input.
        input: InputName,
        /// What the panic said.
        message: String,
    },
    /// An argument is wrong: no input is to blame.
    #[error("{input}: {detail}")]
    Argument {
        /// The argument's name.
        input: InputName,
        /// What is wrong with it.
        detail: String,
    },
}

impl Error {
    /// The reason as one word, as it stands in `n_unscored` and in error columns.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Empty { .. } => "empty",
            Self::NotAnImage { .. } => "not_an_image",
            Self::Unsupported { .. } => "unsupported",
            Self::Truncated { .. } => "truncated",
            Self::Corrupt { .. } => "corrupt",
            Self::Limit { .. } => "limit",
            Self::TooSmall { .. } => "too_small",
            Self::Io { .. } => "unreadable",
            Self::Internal { .. } => "internal",
            Self::Argument { .. } => "argument",
        }
    }

    /// An [`Error::Argument`].
    pub fn argument(name: &str, detail: impl Into<String>) -> Self {
        Self::Argument { input: name.into(), detail: detail.into() }
    }

    /// The system's error for `path`.
    pub fn io(path: &str, error: &std::io::Error) -> Self {
        Self::Io { input: path.into(), message: error.to_string(), kind: error.kind() }
    }
}

/// The core's result.
pub type Result<T> = std::result::Result<T, Error>;
