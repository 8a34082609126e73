//! How a stream's bytes are wrapped below its messages: chunked or not (RFC 9112 section 7.1).

/// A longer chunk, or a longer line before it, is no chunk.
const CHUNK_LEN_MAX: usize = 1 << 30;
const LINE_LEN_MAX: usize = 1024;

/// What one connection's bytes are unwrapped with.
#[derive(Debug, Default)]
pub(crate) enum Coding {
    #[default]
    Identity,
    Chunked(Chunked),
}

/// Where in a chunk a stream is.
#[derive(Debug)]
pub(crate) enum Chunked {
    /// The digits of the length.
    Len { len: usize, digit_count: usize },
    /// The rest of that line, extensions included.
    Line { len: usize, read: usize },
    /// So many bytes to come.
    Data(usize),
    /// The line end behind them.
    End,
}

impl Default for Chunked {
    fn default() -> Self {
        Self::Len { len: 0, digit_count: 0 }
    }
}

impl Chunked {
    /// Whether what comes next is the first byte of a chunk.
    #[inline]
    pub(crate) fn is_between(&self) -> bool {
        matches!(self, Self::Len { digit_count: 0, .. })
    }

    /// Takes the next bytes of the stream itself from the front of `received`, of one chunk at most,
    /// and the chunk's end behind them; `None` = no more.
    ///
    /// # Errors
    /// Tells why when the stream has ended or is not coded as it should be.
    #[inline]
    pub(crate) fn unwrap<'a>(
        &mut self,
        received: &mut &'a [u8],
    ) -> Result<Option<&'a [u8]>, &'static str> {
        while let Some((&byte, rest)) = received.split_first() {
            *self = match *self {
                Self::Data(left) => {
                    let (body, rest) = received.split_at(left.min(received.len()));
                    *received = rest;
                    let left = left - body.len();
                    *self = if left == 0 { Self::End } else { Self::Data(left) };
                    if left == 0
                        && let Some(rest) = received.strip_prefix(b"\r\n")
                    {
                        (*received, *self) = (rest, Self::default());
                    }
                    return Ok(Some(body));
                }
                Self::Len { len, digit_count } => match char::from(byte).to_digit(16) {
                    Some(_) if len > CHUNK_LEN_MAX >> 4 => return Err("chunk over 1 GiB"),
                    Some(digit) => {
                        let len = len << 4 | digit as usize;
                        Self::Len { len, digit_count: (digit_count + 1).min(LINE_LEN_MAX) }
                    }
                    None if digit_count == 0 => return Err("chunk without a length"),
                    None => Self::Line { len, read: 0 }.line(byte)?,
                },
                Self::Line { .. } => self.line(byte)?,
                Self::End => match byte {
                    b'\r' => Self::End,
                    b'\n' => Self::default(),
                    _ => return Err("chunk longer than its length"),
                },
            };
            *received = rest;
        }
        Ok(None)
    }

    /// One byte behind the length's digits.
    fn line(&self, byte: u8) -> Result<Self, &'static str> {
        match *self {
            Self::Line { len: 0, .. } if byte == b'\n' => Err("the server ended the stream"),
            Self::Line { len, .. } if byte == b'\n' => Ok(Self::Data(len)),
            Self::Line { len, read } if read < LINE_LEN_MAX => {
                Ok(Self::Line { len, read: read + 1 })
            }
            _ => Err("chunk's first line too long"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `pieces` unwrap to, and how that ended.
    fn unwrap<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<u8>, Result<(), &'static str>) {
        let (mut coding, mut body) = (Chunked::default(), Vec::new());
        for mut piece in pieces {
            loop {
                match coding.unwrap(&mut piece) {
                    Ok(Some(bytes)) => body.extend_from_slice(bytes),
                    Ok(None) => break,
                    Err(reason) => return (body, Err(reason)),
                }
            }
        }
        (body, Ok(()))
    }

    #[test]
    fn any_split_of_the_chunks_gives_the_same_bytes() {
        let mut coded = b"5\r\nhello\r\n1a;name=\"x\"\r\n".to_vec();
        coded.extend_from_slice(b"abcdefghijklmnopqrstuvwxyz\r\n01\r\n!\r\n");
        for piece_len in 1..=coded.len() {
            let (body, end) = unwrap(coded.chunks(piece_len));
            assert_eq!(body, b"helloabcdefghijklmnopqrstuvwxyz!", "pieces of {piece_len}");
            assert_eq!(end, Ok(()));
        }
    }

    #[test]
    fn an_end_and_nonsense_end_the_stream() {
        for (coded, reason) in [
            ("0\r\n\r\n", "the server ended the stream"),
            ("\r\n", "chunk without a length"),
            ("xyz\r\n", "chunk without a length"),
            ("1\r\nab\r\n", "chunk longer than its length"),
            ("ffffffffff\r\n", "chunk over 1 GiB"),
            (&format!("1;{}\r\n", "x".repeat(2_000)), "chunk's first line too long"),
        ] {
            assert_eq!(unwrap([coded.as_bytes()].into_iter()).1, Err(reason), "{coded}");
        }
    }
}
