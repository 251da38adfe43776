//! What libcontainer only logs. Its errors cross processes as their outermost words ("failed to prepare rootfs"); what
//! happened is in the events that it logs on the way. A helper keeps the first of them, from whichever process it comes.

use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;

use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Longer ones are cut: a pipe takes so many bytes at once or none.
const MAX_EVENT: usize = 2048;

/// Events of this process and those that it makes.
pub(super) struct Diagnosis {
    events: OwnedFd,
}

impl Diagnosis {
    /// Listens from now on. Once in a process, which is a helper.
    pub fn start() -> io::Result<Diagnosis> {
        let (events, sink) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        // If there is one already it is as good.
        let _ = tracing::subscriber::set_global_default(Sink(File::from(sink)));
        Ok(Diagnosis { events })
    }

    /// A message with what is known of its cause.
    pub fn explain(self, message: String) -> String {
        let mut bytes = vec![0u8; MAX_EVENT];
        let length = File::from(self.events).read(&mut bytes).unwrap_or(0);
        // The first event is the innermost.
        match String::from_utf8_lossy(&bytes[..length]).lines().next() {
            Some(cause) if !message.contains(cause) => format!("{message}: {cause}"),
            _ => message,
        }
    }
}

struct Sink(File);

#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

impl Subscriber for Sink {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::ERROR
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        let mut line = format!("{}{}", text.message, text.fields).replace('\n', " ").into_bytes();
        line.truncate(MAX_EVENT - 1);
        line.push(b'\n');
        // A full pipe has the first ones, which are wanted.
        let _ = (&self.0).write_all(&line);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
