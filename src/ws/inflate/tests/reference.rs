//! An inflater written for plainness only (RFC 1951): bit by bit, nothing looked up.

/// Extra bits and first value of the length codes from 257 on.
const LENGTHS: [(u32, usize); 29] = [
    (0, 3),
    (0, 4),
    (0, 5),
    (0, 6),
    (0, 7),
    (0, 8),
    (0, 9),
    (0, 10),
    (1, 11),
    (1, 13),
    (1, 15),
    (1, 17),
    (2, 19),
    (2, 23),
    (2, 27),
    (2, 31),
    (3, 35),
    (3, 43),
    (3, 51),
    (3, 59),
    (4, 67),
    (4, 83),
    (4, 99),
    (4, 115),
    (5, 131),
    (5, 163),
    (5, 195),
    (5, 227),
    (0, 258),
];

/// Order in which the lengths of the codes for code lengths come.
const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// Why a message is not inflated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Invalid,
    TooLong,
}

/// A message, and the longest distance that it refers back to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Inflated {
    pub(crate) data: Vec<u8>,
    pub(crate) distance_max: usize,
}

struct Stream<'a> {
    /// The payload, and behind it the end of the flush that it leaves out.
    bytes: &'a [u8],
    payload_len: usize,
    /// Bits that were read.
    at: usize,
    out: Inflated,
    /// Where what may be referred to begins.
    start: usize,
    len_max: usize,
}

/// Inflates a whole message.
pub(crate) fn inflate(payload: &[u8], len_max: usize) -> Result<Inflated, Fault> {
    let bytes = [payload, &[0, 0, 0xff, 0xff]].concat();
    let (payload_len, out) = (payload.len(), Inflated::default());
    let mut stream = Stream { bytes: &bytes, payload_len, at: 0, out, start: 0, len_max };
    while stream.at < bytes.len() * 8 {
        let is_final = stream.bits(1)? == 1;
        match stream.bits(2)? {
            0 => stream.stored()?,
            1 => stream.coded(&fixed(), &[5; 30])?,
            2 => stream.dynamic()?,
            _ => return Err(Fault::Invalid),
        }
        if is_final {
            stream.at = stream.at.next_multiple_of(8);
            stream.start = stream.out.data.len();
            match stream.at / 8 {
                at if at == payload_len => break,
                at if at > payload_len => return Err(Fault::Invalid),
                _ => {}
            }
        }
    }
    Ok(stream.out)
}

fn fixed() -> Vec<u32> {
    [vec![8; 144], vec![9; 112], vec![7; 24], vec![8; 8]].concat()
}

/// Whether code lengths give every code to one symbol.
fn is_complete(lengths: &[u32]) -> bool {
    let space: u64 = lengths.iter().filter(|len| **len > 0).map(|len| 1 << (15 - *len)).sum();
    space == 1 << 15
}

/// As [`is_complete`], but there may be no code at all, or a lone one of one bit.
fn is_enough(lengths: &[u32]) -> bool {
    is_complete(lengths) || lengths.iter().sum::<u32>() <= 1
}

impl Stream<'_> {
    fn bits(&mut self, count: u32) -> Result<usize, Fault> {
        (0..count).try_fold(0, |value, bit| {
            let byte = self.bytes.get(self.at / 8).ok_or(Fault::Invalid)?;
            let read = usize::from(byte >> (self.at % 8) & 1);
            self.at += 1;
            Ok(value | read << bit)
        })
    }

    fn push(&mut self, byte: u8) -> Result<(), Fault> {
        self.out.data.push(byte);
        if self.at > self.payload_len * 8 {
            return Err(Fault::Invalid);
        }
        if self.out.data.len() > self.len_max { Err(Fault::TooLong) } else { Ok(()) }
    }

    fn stored(&mut self) -> Result<(), Fault> {
        self.at = self.at.next_multiple_of(8);
        let (len, complement) = (self.bits(16)?, self.bits(16)?);
        if len != complement ^ 0xffff {
            return Err(Fault::Invalid);
        }
        for _ in 0..len {
            let byte = self.bits(8)?;
            self.push(u8::try_from(byte).expect("eight bits"))?;
        }
        Ok(())
    }

    fn dynamic(&mut self) -> Result<(), Fault> {
        let (literals, distances) = (self.bits(5)? + 257, self.bits(5)? + 1);
        let order_count = self.bits(4)? + 4;
        let mut order = [0; 19];
        for index in &ORDER[..order_count] {
            order[*index] = u32::try_from(self.bits(3)?).expect("three bits");
        }
        if literals > 286 || distances > 30 || !is_complete(&order) {
            return Err(Fault::Invalid);
        }
        let mut lengths: Vec<u32> = Vec::new();
        while lengths.len() < literals + distances {
            let (value, times) = match self.symbol(&order)? {
                16 => (*lengths.last().ok_or(Fault::Invalid)?, 3 + self.bits(2)?),
                17 => (0, 3 + self.bits(3)?),
                18 => (0, 11 + self.bits(7)?),
                len => (u32::try_from(len).expect("a length"), 1),
            };
            lengths.extend(vec![value; times]);
        }
        if lengths.len() > literals + distances {
            return Err(Fault::Invalid);
        }
        let (literals, distances) = lengths.split_at(literals);
        if literals[256] == 0 || !is_enough(literals) || !is_enough(distances) {
            return Err(Fault::Invalid);
        }
        self.coded(literals, distances)
    }

    /// Symbols of one block, up to its end.
    fn coded(&mut self, literals: &[u32], distances: &[u32]) -> Result<(), Fault> {
        loop {
            let symbol = self.symbol(literals)?;
            if symbol == 256 {
                return Ok(());
            }
            if let Ok(byte) = u8::try_from(symbol) {
                self.push(byte)?;
                continue;
            }
            let (extra, first) = *LENGTHS.get(symbol - 257).ok_or(Fault::Invalid)?;
            let len = first + self.bits(extra)?;
            let symbol = self.symbol(distances)?;
            if symbol > 29 {
                return Err(Fault::Invalid);
            }
            let extra = u32::try_from(symbol.saturating_sub(2) / 2).expect("few");
            let first = if symbol < 4 { symbol + 1 } else { ((2 + symbol % 2) << extra) + 1 };
            let distance = first + self.bits(extra)?;
            self.copy(distance, len)?;
        }
    }

    fn copy(&mut self, distance: usize, len: usize) -> Result<(), Fault> {
        if distance > self.out.data.len() - self.start {
            return Err(Fault::Invalid);
        }
        self.out.distance_max = self.out.distance_max.max(distance);
        for _ in 0..len {
            self.push(self.out.data[self.out.data.len() - distance])?;
        }
        Ok(())
    }

    /// The next symbol of a canonical code (RFC 1951 section 3.2.2).
    fn symbol(&mut self, lengths: &[u32]) -> Result<usize, Fault> {
        let (mut code, mut first) = (0, 0);
        for len in 1..=15 {
            code = code << 1 | self.bits(1)?;
            let mut symbols = (0..lengths.len()).filter(|symbol| lengths[*symbol] == len);
            let count = symbols.clone().count();
            if code < first + count {
                return symbols.nth(code - first).ok_or(Fault::Invalid);
            }
            first = (first + count) << 1;
        }
        Err(Fault::Invalid)
    }
}
