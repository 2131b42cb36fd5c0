//! The conductor: one thread that gives the engine its inputs and has its effects carried out.
//!
//! Turn by turn: what has arrived goes in, the engine plans, what must be durable is given to the
//! [`Committer`], and only when it is durable is done what the engine wants done. The next turns
//! go on meanwhile; what they want waits its turn. Whatever asks from other threads (peers for
//! content, the control socket for numbers) takes the engine's lock for a moment.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ahoy_logic::moment::Moment;
use ahoy_logic::sync::{Effect, Engine, Input, Notice, Row};

use super::committer::Committer;
use super::disk::{Disk, Listener};
use super::link::Port;
use super::links::Links;

/// Most inputs of one turn: more of them make for fewer commits, fewer for quicker answers.
const TURN_INPUTS_MAX: usize = 1024;

/// The longest a turn waits for something to happen; status is looked at this often.
const IDLE: Duration = Duration::from_millis(500);

/// Most rows and wishes that wait for a commit; beyond that the conductor waits with them.
const BEHIND_MAX: usize = 16 * 1024;

/// What the conductor's thread hears.
pub enum Mail {
    /// For the engine.
    Input(Input),
    /// For the user, from the disk side.
    Warn(String),
    /// The user says that if the folder is found empty, that is on purpose.
    AcceptEmpty,
    /// The user says that what has disappeared is meant to be gone.
    Confirm,
    /// The committer has carried out its order.
    Committed,
    /// The index cannot be written, or can again.
    IndexTrouble(Option<String>),
    /// End.
    Stop,
}

/// Most messages of peers that wait for the conductor. More of them wait with their senders: a
/// link whose message has no room reads no further, so a flood fills the flooder's own memory.
const HEARD_MAX: usize = 128;

/// Everybody's way to the conductor.
#[derive(Clone)]
pub struct Mailbox {
    sender: Sender<Mail>,
    heard: Arc<Heard>,
}

impl Mailbox {
    /// A mailbox in front of this sender, and the count that the conductor keeps with it.
    pub fn new(sender: Sender<Mail>) -> (Self, Arc<Heard>) {
        let heard = Arc::new(Heard::default());
        let mailbox = Self {
            sender,
            heard: Arc::clone(&heard),
        };
        (mailbox, heard)
    }
}

/// Counts the messages of peers that wait for the conductor.
#[derive(Default)]
pub struct Heard {
    state: Mutex<HeardState>,
    room: Condvar,
}

#[derive(Default)]
struct HeardState {
    waiting: usize,
    ended: bool,
}

impl Heard {
    /// One more; waits for room. The wait ends with the conductor at the latest, which works off
    /// what is there and waits for no peer.
    fn enter(&self) {
        let full = |state: &mut HeardState| state.waiting >= HEARD_MAX && !state.ended;
        let state = self.room.wait_while(self.lock(), full);
        state.unwrap_or_else(PoisonError::into_inner).waiting += 1;
    }

    /// One has been taken out.
    fn leave(&self) {
        let mut state = self.lock();
        state.waiting = state.waiting.saturating_sub(1);
        drop(state);
        self.room.notify_one();
    }

    /// Nobody takes anything out any more.
    fn end(&self) {
        self.lock().ended = true;
        self.room.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, HeardState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listener for Mailbox {
    fn input(&self, input: Input) {
        // After the end nobody listens, and nobody needs to.
        let _ = self.sender.send(Mail::Input(input));
    }

    fn warn(&self, text: String) {
        let _ = self.sender.send(Mail::Warn(text));
    }
}

impl Port for Mailbox {
    fn input(&self, input: Input) {
        if matches!(input, Input::Heard { .. }) {
            self.heard.enter();
        }
        let _ = self.sender.send(Mail::Input(input));
    }
}

/// The engine, for whoever needs to look at it.
#[derive(Clone)]
pub struct Shared(Arc<Mutex<Engine>>);

impl Shared {
    /// Shares an engine.
    pub fn new(engine: Engine) -> Self {
        Self(Arc::new(Mutex::new(engine)))
    }

    /// The engine; hold it for a moment only.
    pub fn lock(&self) -> MutexGuard<'_, Engine> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<A: Audience> Drop for Conductor<A> {
    fn drop(&mut self) {
        self.heard.end();
    }
}

/// What the conductor tells upwards; called on its thread.
pub trait Audience: Send {
    /// The engine has something for the user.
    fn notice(&self, notice: Notice);
    /// The disk side has something for the user.
    fn warn(&self, text: String);
    /// The index cannot be written, or can again.
    fn index_trouble(&self, reason: Option<String>);
    /// A turn is over; called at least twice a second. What has been done so far is durable if
    /// it `is_durable`.
    fn turn(&self, is_durable: bool);
}

/// The thread's belongings.
pub struct Conductor<A: Audience> {
    /// What arrives.
    pub mail: Receiver<Mail>,
    /// How much of it is from peers.
    pub heard: Arc<Heard>,
    /// The engine.
    pub engine: Shared,
    /// Its memory.
    pub committer: Committer,
    /// Its hands and eyes.
    pub disk: Disk,
    /// Its voice.
    pub links: Arc<Links>,
    /// Who listens.
    pub audience: A,
    /// What waits for a commit.
    pub backlog: Backlog,
}

/// Effects that have to wait.
#[derive(Default)]
pub struct Backlog {
    /// What is to be done when the order of the committer is done.
    ordered: Option<Vec<Effect>>,
    /// For the next order.
    rows: Vec<Row>,
    /// What is to be done after that one.
    then: Vec<Effect>,
}

impl Backlog {
    fn is_empty(&self) -> bool {
        self.ordered.is_none() && self.rows.is_empty() && self.then.is_empty()
    }

    fn is_full(&self) -> bool {
        self.rows.len() + self.then.len() > BEHIND_MAX
    }

    fn add(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            if let Effect::Keep(row) = effect {
                self.rows.push(row);
            } else {
                self.then.push(effect);
            }
        }
    }
}

impl<A: Audience> Conductor<A> {
    /// Works until told to stop.
    pub fn run(mut self) {
        let origin = Instant::now();
        let now = || Moment::after_origin(origin.elapsed());
        loop {
            let deadline = self.engine.lock().deadline();
            let wait = deadline.map_or(IDLE, |(at, _)| at.wait_from(now()).min(IDLE));
            let (inputs, stop) = self.hear(wait);
            if matches!(inputs[..], [Input::Tick]) {
                self.say_what_is_waited_for();
            }
            let effects = {
                let mut engine = self.engine.lock();
                for input in inputs {
                    engine.take(now(), input);
                }
                engine.flush(now())
            };
            self.backlog.add(effects);
            let mut goes_on = self.carry_out();
            while goes_on && (self.backlog.is_full() || stop) && self.backlog.ordered.is_some() {
                goes_on = self.committer.wait();
                if goes_on {
                    self.committed();
                    goes_on = self.carry_out();
                }
            }
            if goes_on && stop {
                self.note_the_last(now());
            }
            if !goes_on || stop {
                break;
            }
            self.audience.turn(self.backlog.is_empty());
        }
        self.links.close();
    }

    /// At an orderly stop, what the hands have done is in the index: if the user now removes a file
    /// that was brought here a moment ago, the next start must not take it for one that has yet to
    /// come. Nothing else of the turn is carried out.
    fn note_the_last(&mut self, now: Moment) {
        self.links.close();
        self.disk.rest();
        let effects = {
            let mut engine = self.engine.lock();
            while let Ok(mail) = self.mail.try_recv() {
                if let Mail::Input(input @ Input::Finished(_)) = mail {
                    engine.take(now, input);
                }
            }
            engine.flush(now)
        };
        self.backlog.add(effects);
        let rows = std::mem::take(&mut self.backlog.rows);
        if !rows.is_empty() {
            self.committer.order(rows);
            self.committer.wait();
        }
    }

    /// For whoever looks for a fault: `AHOY_LOG=ahoy_host::sync::conductor=trace`.
    fn say_what_is_waited_for(&self) {
        if tracing::enabled!(tracing::Level::TRACE) {
            for reason in self.engine.lock().reasons() {
                tracing::trace!(%reason, "not done");
            }
        }
    }

    /// Waits for mail, then takes what else is there; whether that is the end.
    fn hear(&mut self, wait: Duration) -> (Vec<Input>, bool) {
        let mut inputs = Vec::new();
        let mut next = match self.mail.recv_timeout(wait) {
            Ok(mail) => Some(mail),
            Err(RecvTimeoutError::Timeout) => {
                inputs.push(Input::Tick);
                None
            }
            Err(RecvTimeoutError::Disconnected) => return (inputs, true),
        };
        while let Some(mail) = next {
            match mail {
                Mail::Input(input) => {
                    if matches!(input, Input::Heard { .. }) {
                        self.heard.leave();
                    }
                    inputs.push(input);
                }
                Mail::Warn(text) => self.audience.warn(text),
                Mail::AcceptEmpty => self.engine.lock().expect_empty(),
                Mail::Confirm => {
                    self.engine.lock().confirm();
                }
                Mail::IndexTrouble(reason) => self.audience.index_trouble(reason),
                Mail::Committed => break,
                Mail::Stop => return (inputs, true),
            }
            if inputs.len() >= TURN_INPUTS_MAX {
                break;
            }
            next = self.mail.try_recv().ok();
        }
        (inputs, false)
    }

    /// Does what may be done, and orders what must be durable first. False if the index could not
    /// be written and everything is to end.
    fn carry_out(&mut self) -> bool {
        if self.backlog.ordered.is_some() {
            match self.committer.is_done() {
                None => return true,
                Some(false) => return false,
                Some(true) => self.committed(),
            }
        }
        let rows = std::mem::take(&mut self.backlog.rows);
        let then = std::mem::take(&mut self.backlog.then);
        if rows.is_empty() {
            self.act_on(then);
        } else {
            self.backlog.ordered = Some(then);
            self.committer.order(rows);
        }
        true
    }

    /// What was ordered is durable.
    fn committed(&mut self) {
        let then = self.backlog.ordered.take();
        self.act_on(then.unwrap_or_default());
    }

    fn act_on(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            self.act(effect);
        }
    }

    fn act(&mut self, effect: Effect) {
        match effect {
            // Taken out before.
            Effect::Keep(_) => {}
            Effect::Say { link, message } => self.links.say(link, message),
            Effect::Send { link, upto, items } => self.links.send(link, upto, items),
            Effect::Accept { link } => self.links.accept(link),
            Effect::Hang { link, reason } => self.links.hang(link, &reason),
            Effect::Do(step) => self.disk.carry_out(*step),
            Effect::Look { look, ask } => self.disk.look(look, Some(ask)),
            Effect::Read { path, print } => self.disk.read(path, print),
            Effect::Tell(notice) => self.audience.notice(notice),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use ahoy_logic::sync::LinkId;
    use ahoy_wire::sync::Message;

    use super::*;

    fn said(since: u64) -> Input {
        Input::Heard {
            link: LinkId(1),
            message: Message::Want { since },
        }
    }

    #[test]
    fn a_flood_of_messages_waits_with_its_sender() {
        let (sender, mail) = channel();
        let (mailbox, heard) = Mailbox::new(sender);
        let flooding = mailbox.clone();
        let flood = std::thread::spawn(move || {
            (0..10_000).for_each(|n| Port::input(&flooding, said(n)));
        });
        for n in 0..9_000 {
            assert!(heard.lock().waiting <= HEARD_MAX);
            let Ok(Mail::Input(Input::Heard { message, .. })) = mail.recv() else {
                panic!("a message")
            };
            assert_eq!(
                message,
                Message::Want { since: n },
                "none is lost, in order"
            );
            heard.leave();
        }
        // What is not from peers never waits, and nobody waits for a conductor that has ended.
        Port::input(&mailbox, Input::Room { link: LinkId(1) });
        heard.end();
        flood.join().expect("it ends");
    }
}
