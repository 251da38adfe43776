//! The local terminal, put into raw mode while a remote one is used.

use std::os::fd::AsFd;

use anyhow::Result;
use nix::sys::termios::{self, SetArg, Termios};
use streams::remote_command::{Resizer, TerminalSize};
use tokio::signal::unix::{SignalKind, signal};

/// Restores the terminal when dropped.
pub(crate) struct Terminal {
    before: Termios,
}

impl Terminal {
    /// `None` when standard input is no terminal.
    pub fn open() -> Result<Option<Terminal>> {
        use std::io::IsTerminal;
        let stdin = std::io::stdin();
        if !stdin.is_terminal() {
            eprintln!("Unable to use a TTY - input is not a terminal or the right kind of file");
            return Ok(None);
        }
        let before = termios::tcgetattr(stdin.as_fd())?;
        let mut raw = before.clone();
        termios::cfmakeraw(&mut raw);
        termios::tcsetattr(stdin.as_fd(), SetArg::TCSANOW, &raw)?;
        Ok(Some(Terminal { before }))
    }

    /// Tells the remote terminal the size of this one, now and whenever it changes.
    pub fn follow_size(&self, resizer: Resizer) -> Result<()> {
        let mut changes = signal(SignalKind::window_change())?;
        tokio::spawn(async move {
            loop {
                let (width, height) = size();
                if resizer.resize(TerminalSize { width, height }).await.is_err() || changes.recv().await.is_none() {
                    return;
                }
            }
        });
        Ok(())
    }
}

/// Columns and rows; 80 by 24 when the terminal does not say.
fn size() -> (u16, u16) {
    terminal_size::terminal_size().map_or((80, 24), |(width, height)| (width.0, height.0))
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(std::io::stdin().as_fd(), SetArg::TCSANOW, &self.before);
    }
}
