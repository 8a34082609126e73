//! The shapes that servers are compared in.

use super::Options;

/// What a shape is divided by, or that it is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Yield {
    /// Deliveries; at best one `send` for each.
    Each,
    /// Deliveries; at best one `send` per turn.
    Join,
    /// Memory and handshakes.
    Idle,
}

/// One shape.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    arguments: &'static str,
    pub(super) yields: Yield,
}

const fn shape(
    name: &'static str,
    title: &'static str,
    arguments: &'static str,
    yields: Yield,
) -> Shape {
    Shape { name, title, arguments, yields }
}

/// All of them, in the order of the table.
pub(super) const ALL: [Shape; 11] = [
    shape("w1", "1 x 1,000 x 128 B, window 1", "--window 1", Yield::Each),
    shape("w16", "1 x 1,000 x 128 B, window 16", "--window 16", Yield::Join),
    shape("w64", "1 x 1,000 x 128 B, window 64", "--window 64", Yield::Join),
    shape("large-w1", "1 x 1,000 x 16 KiB, window 1", "--payload 16384 --window 1", Yield::Each),
    shape("large-w8", "1 x 1,000 x 16 KiB, window 8", "--payload 16384 --window 8", Yield::Join),
    shape(
        "chat-w1",
        "1,000 x 10 x 128 B, window 1",
        "--topics 1000 --subscribers 10 --window 1",
        Yield::Each,
    ),
    shape(
        "chat-w8",
        "1,000 x 10 x 128 B, window 8",
        "--topics 1000 --subscribers 10 --window 8",
        Yield::Join,
    ),
    shape("open-2000", "1 x 1,000 x 128 B, open 2,000/s", "--rate 2000", Yield::Join),
    shape("open-4000", "1 x 1,000 x 128 B, open 4,000/s", "--rate 4000", Yield::Join),
    shape("open-8000", "1 x 1,000 x 128 B, open 8,000/s", "--rate 8000", Yield::Join),
    shape("idle", "idle connections", "", Yield::Idle),
];

/// Their names, for the command line.
pub(super) fn names() -> [&'static str; ALL.len()] {
    ALL.each_ref().map(|shape| shape.name)
}

impl Shape {
    /// The tester's arguments, but for the server.
    pub(super) fn arguments(&self, options: &Options) -> Vec<String> {
        let line = match self.yields {
            Yield::Idle => {
                let topics = options.connections.div_ceil(10);
                format!(
                    "idle --connections {} --topics {topics} --hold 3s --messages 1",
                    options.connections
                )
            }
            Yield::Each | Yield::Join => format!(
                "fanout {} --drain 3s --duration {}ms --warmup {}ms",
                self.arguments,
                options.duration.as_millis(),
                options.warmup.as_millis()
            ),
        };
        line.split_whitespace().map(str::to_owned).collect()
    }
}
