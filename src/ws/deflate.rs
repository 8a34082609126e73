//! Outgoing permessage-deflate (RFC 7692 section 7.2.1): a whole frame in, a shorter one out.
//!
//! Every message stands for itself, so one deflated frame serves all who agreed on its window.

use flate2::{Compress, Compression, FlushCompress};
use parking_lot::Mutex;

use super::RSV1;
use super::frame::{self, FrameHead};
use super::offer::Window;

/// Measured on JSON of 0.25 to 64 KiB: 1 takes half the time and leaves 30 % more; 6 leaves 3 to
/// 12 % less and takes up to three times as long.
const LEVEL: u32 = 2;

/// What a flush ends with and a message leaves out (RFC 7692 section 7.2.1).
const FLUSH_END: [u8; 4] = [0, 0, 0xff, 0xff];

/// Longer buffers are not kept from one message to the next.
const BUF_LEN_MAX: usize = 256 * 1024;

/// Deflates messages with one window. Threads share it.
#[derive(Debug)]
pub struct Deflater {
    window: Window,
    payload_len_min: usize,
    /// Compressors not at work: no more than ever worked at once, some 0.3 MB each.
    idle: Mutex<Vec<Compressor>>,
}

#[derive(Debug)]
struct Compressor {
    compress: Compress,
    buf: Vec<u8>,
}

impl Deflater {
    /// Leaves payloads of less than `payload_len_min` bytes as they are, and those that would not
    /// become shorter. With 0 it deflates all.
    pub fn new(window: Window, payload_len_min: usize) -> Self {
        Self { window, payload_len_min, idle: Mutex::default() }
    }

    /// The server's own data frame with its payload deflated, exactly sized; `None` = it is to go
    /// out as it is.
    pub fn deflate(&self, frame: &[u8]) -> Option<Vec<u8>> {
        let payload = frame::payload(frame);
        let len_max = match self.payload_len_min {
            0 => payload.len() + payload.len() / 8 + 64,
            min if payload.len() < min => return None,
            _ => payload.len() - 1,
        };
        let idle = self.idle.lock().pop();
        let mut compressor = idle.unwrap_or_else(|| Compressor::new(self.window));
        let deflated = compressor.deflate(payload, len_max).map(|deflated| {
            let head = FrameHead::with_first(frame[0] | RSV1, deflated.len());
            [head.as_slice(), deflated].concat()
        });
        compressor.buf.shrink_to(BUF_LEN_MAX);
        self.idle.lock().push(compressor);
        deflated
    }
}

impl Compressor {
    fn new(window: Window) -> Self {
        let level = Compression::new(LEVEL);
        let compress = Compress::new_with_window_bits(level, false, window.bits());
        Self { compress, buf: Vec::new() }
    }

    /// The payload of the deflated message; `None` if it would be longer than `len_max`.
    fn deflate(&mut self, payload: &[u8], len_max: usize) -> Option<&[u8]> {
        let Self { compress, buf } = self;
        compress.reset();
        buf.clear();
        buf.reserve_exact(len_max + FLUSH_END.len() + 1);
        compress.compress_vec(payload, buf, FlushCompress::Sync).ok()?;
        // A full buffer may mean that there is more.
        let is_whole = buf.len() < buf.capacity() && compress.total_in() == payload.len() as u64;
        let deflated = buf.strip_suffix(&FLUSH_END).filter(|_| is_whole)?;
        (deflated.len() <= len_max).then_some(deflated)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::{BUF_LEN_MAX, Deflater};
    use crate::ws::frame::payload;
    use crate::ws::inflate::tests::reference;
    use crate::ws::{MessageKind, RSV1, Window, data_frame};

    fn json(len: usize) -> Vec<u8> {
        let line = |number: usize| format!("{{\"user\":{number},\"text\":\"hello {number}\"}},");
        (0..).flat_map(|number| line(number).into_bytes()).take(len).collect()
    }

    fn noise(len: usize) -> Vec<u8> {
        let mut rng = fastrand::Rng::with_seed(7);
        std::iter::repeat_with(|| rng.u8(..)).take(len).collect()
    }

    fn check(maker: &Deflater, kind: MessageKind, data: &[u8]) -> usize {
        let frame = data_frame(kind, data);
        let deflated = maker.deflate(&frame).expect("it pays");
        assert!(deflated.len() < frame.len());
        assert_eq!(deflated.capacity(), deflated.len());
        let short = payload(&deflated);
        assert_eq!(deflated[0], frame[0] | RSV1);
        assert_eq!(deflated[1..], data_frame(kind, short)[1..], "one frame, the shortest head");
        let inflated = reference::inflate(short, data.len()).expect("it inflates");
        assert_eq!(inflated.data, data);
        inflated.distance_max
    }

    #[test]
    fn frames_become_shorter_and_keep_to_their_window() {
        for (window, reach) in
            [(Window::Full, 32_768), (Window::Medium, 4_096), (Window::Small, 256)]
        {
            let deflater = Deflater::new(window, 1);
            for len in [100, 200, 1_000, 5_000, 70_000] {
                for kind in [MessageKind::Text, MessageKind::Binary] {
                    assert!(check(&deflater, kind, &json(len)) <= reach, "{window:?} {len}");
                }
            }
            assert_eq!(deflater.idle.lock().len(), 1, "one at work at a time");
        }
        let far = [json(30_000), json(30_000)].concat();
        assert!(check(&Deflater::new(Window::Full, 1), MessageKind::Text, &far) > 4_096);
    }

    #[test]
    fn what_is_short_or_does_not_become_shorter_is_left() {
        let deflater = Deflater::new(Window::Full, 256);
        let is_left =
            |data: &[u8]| deflater.deflate(&data_frame(MessageKind::Text, data)).is_none();
        assert!(is_left(b"") && is_left(&[b'a'; 255]) && !is_left(&[b'a'; 256]));
        assert!(is_left(&noise(10_000)));
        assert_eq!(Deflater::new(Window::Full, 1).deflate(b"\x81\x05hello"), None);
    }

    #[test]
    fn with_a_minimum_of_0_all_is_deflated() {
        let deflater = Deflater::new(Window::Full, 0);
        assert_eq!(deflater.deflate(b"\x81\x00").as_deref(), Some(&b"\xc1\x01\x00"[..]));
        for len in [1, 5, 100, 70_000] {
            let data = noise(len);
            let frame = deflater.deflate(&data_frame(MessageKind::Binary, &data));
            let frame = frame.expect("however long it becomes");
            let inflated = reference::inflate(payload(&frame), len).expect("it inflates");
            assert_eq!(inflated.data, data);
        }
    }

    #[test]
    fn a_long_message_leaves_no_long_buffer() {
        let deflater = Deflater::new(Window::Full, 1);
        check(&deflater, MessageKind::Text, &json(4 * BUF_LEN_MAX));
        assert!(deflater.idle.lock()[0].buf.capacity() <= BUF_LEN_MAX);
    }

    #[test]
    fn threads_share_it() {
        let deflater = Deflater::new(Window::Full, 1);
        thread::scope(|scope| {
            for len in [300, 3_000, 30_000] {
                let deflater = &deflater;
                scope.spawn(move || {
                    (0..50).for_each(|_| {
                        check(deflater, MessageKind::Text, &json(len));
                    });
                });
            }
        });
        assert!((1..=3).contains(&deflater.idle.lock().len()));
    }

    proptest! {
        #[test]
        fn any_data_is_left_or_comes_back(
            data in vec(any::<u8>(), 0..300),
            times in 1_usize..50,
            window in 0_usize..3,
        ) {
            let (data, window) = (data.repeat(times), Window::ALL[window]);
            let frame = data_frame(MessageKind::Binary, &data);
            if let Some(deflated) = Deflater::new(window, 1).deflate(&frame) {
                prop_assert!(deflated.len() < frame.len());
                let inflated = reference::inflate(payload(&deflated), data.len());
                let inflated = inflated.expect("it inflates");
                prop_assert!(inflated.distance_max < 1 << window.bits());
                prop_assert_eq!(inflated.data, data);
            }
        }
    }
}
