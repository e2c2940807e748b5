//! The application's own pages of metrics, of each machine by itself.
//!
//! Fly.io's edge sends a request to the machine that it chooses, so that a page shows one machine of several.
//! With the request header `fly-force-instance-id` it goes to the named machine and to no other (see
//! [`Application::get`]). A machine that is stopped is not asked: it might be started for it.
//!
//! Where none of the machines can be reached so, the page that the edge gives is read, and the reading says
//! so. Fly.io adds no header that names the machine; an application may, with `FLY_MACHINE_ID`.

use std::time::Duration;

use futures::{FutureExt, StreamExt, stream};

use super::{
    application::Application,
    fault::{Cause, Fault, Subject},
    machines::{Awake, Seen, all_sleep},
};
use crate::{
    clock::watch::WatchClock,
    exposition::{self, Format},
    net::probe::{Answer, MAX_METRICS},
    phase::observe::reading::{Reached, Reading},
    slo::{Instance, Page, Source, page},
};

/// The header of an answer with which an application may name its machine.
const MACHINE: &str = "fly-machine-id";

/// Longest time of one page.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Pages that are read at once, of one application.
const AT_ONCE: usize = 8;

/// Reads pages for these objectives.
#[derive(Clone, Copy, Debug)]
pub struct Pages<'a> {
    /// Whose pages.
    pub application: &'a Application,
    /// Their path.
    pub path: &'a str,
    /// What is read of them.
    pub sources: &'a [Source],
    /// The clock of the watch.
    pub clock: &'a WatchClock,
}

impl Pages<'_> {
    /// The pages of the machines that run.
    pub async fn read(&self, machines: &[Seen]) -> Reading {
        let awake = machines.iter();
        let awake = awake.filter(|machine| machine.state == Awake::Runs);
        let awake: Vec<&str> = awake.map(|machine| machine.id.as_str()).collect();
        let asleep = machines.iter();
        let asleep = asleep.filter(|machine| machine.state == Awake::Sleeps);
        let mut reading = Reading::empty(Reached::EachMachine);
        reading.asleep = asleep.count();
        reading.expected = awake.len().max(1);
        if all_sleep(machines) {
            reading.reached = Reached::Asleep;
            return reading;
        }
        if awake.is_empty() {
            reading.reached = Reached::Nobody;
            reading.faults.push(Fault {
                of: Subject::Metrics,
                why: Cause::NoMachine,
            });
            return reading;
        }
        // Boxed, because a task that makes a look must be known to be Send.
        let pages = awake.into_iter();
        let pages = pages.map(|id| async move { (id, self.page(Some(id)).await) }.boxed());
        let mut pages = stream::iter(pages.collect::<Vec<_>>()).buffered(AT_ONCE);
        while let Some((id, page)) = pages.next().await {
            match page {
                Ok((_, page)) => reading.pages.push((Instance::Machine(id.to_owned()), page)),
                Err(why) => reading.faults.push(Fault {
                    of: Subject::Machine(id.to_owned()),
                    why,
                }),
            }
        }
        if reading.pages.is_empty() {
            self.through_the_edge(&mut reading).await;
        }
        reading
    }

    /// The page that the edge gives, when no machine can be asked by itself.
    async fn through_the_edge(&self, reading: &mut Reading) {
        match self.page(None).await {
            Ok((machine, page)) => {
                let instance = machine.map_or(Instance::Edge, Instance::Machine);
                reading.pages.push((instance, page));
                reading.reached = Reached::EdgeOnly;
            }
            Err(why) => {
                reading.reached = Reached::Nobody;
                let of = Subject::Edge;
                reading.faults.push(Fault { of, why });
            }
        }
    }

    /// One page, and the machine that it names as its own.
    async fn page(&self, machine: Option<&str>) -> Result<(Option<String>, Page), Cause> {
        let accept = (exposition::ACCEPT, MAX_METRICS);
        let asked = self.application.get(self.path, machine, accept, TIMEOUT);
        let answer = asked.await?;
        let named = machine_of(&answer);
        let is_other = |asked: &str| named.as_deref().is_some_and(|named| named != asked);
        if machine.is_some_and(is_other) {
            return Err(Cause::OtherMachine);
        }
        let mut page = parse(&answer, self.sources)?;
        // A time of the application, as one of the watch.
        page.start = page.start.map(|start| self.clock.of_seconds(start));
        Ok((named, page))
    }
}

/// The page of an answer.
fn parse(answer: &Answer, sources: &[Source]) -> Result<Page, Cause> {
    if answer.status != 200 {
        return Err(Cause::Status(answer.status));
    }
    let type_ = answer.headers.get("content-type");
    let type_ = type_.and_then(|value| value.to_str().ok());
    let format = Format::of(type_).ok_or(Cause::NoMetrics)?;
    Ok(page::read(&answer.body, format, sources)?)
}

/// The machine that an answer names: an id of 14 hexadecimal digits.
fn machine_of(answer: &Answer) -> Option<String> {
    let id = answer.headers.get(MACHINE)?.to_str().ok()?;
    let is_id = id.len() == 14 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_id.then(|| id.to_owned())
}
