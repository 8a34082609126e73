//! Standard output, of which every failure is seen.

use std::io::{self, Write as _};

/// Why nothing more can be printed.
#[derive(Debug, thiserror::Error)]
pub(super) enum OutputError {
    /// The reader has gone; that ends a command without a fault.
    #[error("standard output is closed")]
    Closed,
    /// Anything else, such as a full disk.
    #[error("cannot write to standard output")]
    Failed(#[source] io::Error),
}

impl From<io::Error> for OutputError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Failed(error),
        }
    }
}

/// Buffered standard output.
#[derive(Debug)]
pub(super) struct Output(io::BufWriter<io::StdoutLock<'static>>);

impl Output {
    pub(super) fn new() -> Self {
        Self(io::BufWriter::new(io::stdout().lock()))
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), OutputError> {
        Ok(self.0.write_all(bytes)?)
    }

    pub(super) fn flush(&mut self) -> Result<(), OutputError> {
        Ok(self.0.flush()?)
    }
}
