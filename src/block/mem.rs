//! A disk in memory whose every operation can be made to fail: the target of all fault tests.

use super::BlockDevice;
use crate::sys::{Chance, Power};
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The operations that can be counted and failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DiskOp {
    /// [`BlockDevice::read_at`].
    Read,
    /// [`BlockDevice::write_at`].
    Write,
    /// [`BlockDevice::write_zeroes`].
    Zero,
    /// [`BlockDevice::discard`].
    Discard,
    /// [`BlockDevice::flush`].
    Flush,
    /// [`BlockDevice::reread_partition_table`].
    Reread,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFault {
    /// The operation fails with this errno.
    Errno(i32),
    /// A write, zeroing or flush reports success and changes nothing; a read is not affected.
    Drop,
    /// One bit (its position counted in the transfer, modulo its length) is wrong in what is read or written.
    FlipBit(u64),
    /// A read or write stops short: `UnexpectedEof` or `WriteZero`.
    Short,
    /// The caller's thread panics: an error of this program.
    Panic,
    /// The operation does not return before [`MemDisk::release`], and is fine then.
    Hang,
}

/// How long anything waits for a hang or its end: a test that is wrong fails, and does not stand still itself.
const PATIENCE: Duration = Duration::from_secs(100);

#[derive(Clone, Debug)]
struct Rule {
    op: DiskOp,
    range: Range<u64>,
    fault: DiskFault,
    /// Left before the rule is spent.
    times: u64,
}

#[derive(Debug, Default)]
struct DiskState {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// What was written since the last flush, in order: place and bytes.
    unflushed: Vec<(usize, Vec<u8>)>,
    power: Option<Power>,
    random: Option<DiskRandom>,
    rules: Vec<Rule>,
    log: Vec<(DiskOp, u64, u64)>,
    /// Operations from this one on fail, if `dead`; only this one, if not.
    fail_at: Option<(u64, DiskFault, bool)>,
    size_now: Option<u64>,
    rotational: bool,
    hanging: usize,
    released: bool,
    hook: Option<DiskHook>,
}

/// What is called before the disk is changed.
struct DiskHook(Box<dyn FnOnce() + Send>);

impl fmt::Debug for DiskHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DiskHook")
    }
}

/// Faults by chance.
#[derive(Debug)]
struct DiskRandom {
    chance: Chance,
    one_in: u64,
    seen: HashMap<(DiskOp, u64), u64>,
}

impl DiskRandom {
    /// Those that must not be lost: what nobody could notice is left out, as a wrong bit of the source.
    fn fault(&mut self, op: DiskOp, offset: u64) -> Option<DiskFault> {
        let nth = self.seen.entry((op, offset)).or_default();
        *nth += 1;
        let what = (op, offset, *nth);
        let error = DiskFault::Errno(libc::EIO);
        let faults: &[DiskFault] = match op {
            DiskOp::Read => &[error, DiskFault::Errno(libc::ENODATA), DiskFault::Short],
            DiskOp::Write => {
                &[error, DiskFault::Short, DiskFault::Drop, DiskFault::FlipBit(self.chance.of((what, "bit")))]
            }
            DiskOp::Zero => &[error, DiskFault::Drop],
            DiskOp::Discard | DiskOp::Flush | DiskOp::Reread => &[error],
        };
        let is_hit = self.chance.one_in(self.one_in, what);
        is_hit.then(|| self.chance.choose(faults, (what, "kind"))).flatten()
    }
}

/// A disk of bytes with two views: what a reader sees now, and what a power cut would leave ([`MemDisk::durable`]).
#[derive(Debug)]
pub struct MemDisk {
    name: String,
    size: u64,
    logical: u32,
    state: Mutex<DiskState>,
    changed: Condvar,
}

impl MemDisk {
    /// A disk with this content, whose length must be a multiple of `logical` (bytes).
    pub fn new(name: &str, content: Vec<u8>, logical: u32) -> Self {
        assert_eq!(content.len() % logical as usize, 0, "content in whole logical blocks");
        let size = content.len() as u64;
        let state = DiskState { durable: content.clone(), live: content, ..DiskState::default() };
        let (state, changed) = (Mutex::new(state), Condvar::new());
        MemDisk { name: name.to_owned(), size, logical, state, changed }
    }

    fn state(&self) -> MutexGuard<'_, DiskState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a reader would see now.
    pub fn content(&self) -> Vec<u8> {
        self.state().live.clone()
    }

    /// What a power cut now would leave: only what was flushed.
    pub fn durable(&self) -> Vec<u8> {
        self.state().durable.clone()
    }

    /// Every operation so far, in order: kind, offset, length in bytes (0 where there is none).
    pub fn log(&self) -> Vec<(DiskOp, u64, u64)> {
        self.state().log.clone()
    }

    /// How many operations of one kind there were.
    pub fn count(&self, op: DiskOp) -> usize {
        self.state().log.iter().filter(|l| l.0 == op).count()
    }

    /// From now on, `op` over any byte of `range` suffers `fault`, `times` times (`u64::MAX`: always).
    pub fn inject(&self, op: DiskOp, range: Range<u64>, fault: DiskFault, times: u64) {
        self.state().rules.push(Rule { op, range, fault, times });
    }

    /// The `nth` operation from now (0 is the next), of whatever kind, suffers `fault`; with `dead`, so do all
    /// after it.
    pub fn fail_nth(&self, nth: u64, fault: DiskFault, dead: bool) {
        let mut state = self.state();
        let at = state.log.len() as u64 + nth;
        state.fail_at = Some((at, fault, dead));
    }

    /// Whether the disk has a head to move.
    pub fn set_rotational(&self, rotational: bool) {
        self.state().rotational = rotational;
    }

    /// What the kernel says of the disk's size from now on; 0 for a disk that was taken away.
    pub fn set_size_now(&self, size: u64) {
        self.state().size_now = Some(size);
    }

    /// Waits until an operation hangs ([`DiskFault::Hang`]).
    ///
    /// # Panics
    /// None does within 100 s.
    pub fn wait_for_hang(&self) {
        let waited = self.changed.wait_timeout_while(self.state(), PATIENCE, |state| state.hanging == 0);
        assert!(!waited.unwrap_or_else(PoisonError::into_inner).1.timed_out(), "nothing hangs");
    }

    /// Lets what hangs go on, and nothing hang any more.
    pub fn release(&self) {
        self.state().released = true;
        self.changed.notify_all();
    }

    /// Calls this before the next operation that changes the disk.
    pub fn before_write(&self, hook: Box<dyn FnOnce() + Send>) {
        self.state().hook = Some(DiskHook(hook));
    }

    /// One operation in so many goes wrong, by chance. It depends on the seed, the operation, its place, and how often
    /// that was done before.
    pub fn fail_by_chance(&self, chance: Chance, one_in: u64) {
        self.state().random = Some(DiskRandom { chance, one_in, seen: HashMap::new() });
    }

    /// No faults any more.
    pub fn heal(&self) {
        let mut state = self.state();
        state.rules.clear();
        state.fail_at = None;
        state.random = None;
    }

    /// Hangs the disk on this power: after the cut every operation fails, and none is counted.
    pub fn plug(&self, power: &Power) {
        self.state().power = Some(power.clone());
    }

    /// The same disk once more, with what was not flushed; without faults and power.
    pub fn copy(&self) -> MemDisk {
        let state = self.state();
        let copied = DiskState {
            live: state.live.clone(),
            durable: state.durable.clone(),
            unflushed: state.unflushed.clone(),
            ..DiskState::default()
        };
        MemDisk {
            name: self.name.clone(),
            size: self.size,
            logical: self.logical,
            state: Mutex::new(copied),
            changed: Condvar::new(),
        }
    }

    /// Leaves what a power cut may leave: all that was flushed, and of each later write all, nothing, or some of its
    /// logical blocks.
    pub fn cut(&self, chance: Chance) {
        let mut state = self.state();
        let block = self.logical as usize;
        let DiskState { live, durable, unflushed, .. } = &mut *state;
        for (nth, (at, bytes)) in unflushed.drain(..).enumerate() {
            let kind = chance.of(nth) % 3;
            for (n, bytes) in bytes.chunks(block).enumerate() {
                if kind == 0 || (kind == 1 && chance.one_in(2, (nth, n))) {
                    let at = at + n * block;
                    durable[at..at + bytes.len()].copy_from_slice(bytes);
                }
            }
        }
        live.copy_from_slice(durable);
    }

    /// Logs the operation, checks its range and finds what goes wrong with it.
    fn begin(
        &self,
        op: DiskOp,
        offset: u64,
        len: u64,
    ) -> io::Result<(MutexGuard<'_, DiskState>, Option<DiskFault>)> {
        let mut state = self.state();
        if let Some(power) = &state.power {
            power.begin()?;
        }
        let number = state.log.len() as u64;
        state.log.push((op, offset, len));
        let block = u64::from(self.logical);
        if !offset.is_multiple_of(block) || !len.is_multiple_of(block) {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let end = offset.checked_add(len).filter(|end| *end <= self.size);
        let Some(end) = end else {
            return Err(io::Error::from_raw_os_error(if op == DiskOp::Read {
                libc::EINVAL
            } else {
                libc::ENOSPC
            }));
        };
        let mut fault = match state.fail_at {
            Some((at, fault, dead)) if number == at || (dead && number > at) => Some(fault),
            _ => None,
        };
        if fault.is_none() {
            fault = state.random.as_mut().and_then(|random| random.fault(op, offset));
        }
        for rule in &mut state.rules {
            let hit = len == 0 || (rule.range.start < end && offset < rule.range.end);
            if fault.is_none() && rule.op == op && rule.times > 0 && hit {
                rule.times = if rule.times == u64::MAX { u64::MAX } else { rule.times - 1 };
                fault = Some(rule.fault);
            }
        }
        if fault == Some(DiskFault::Hang) {
            state.hanging += 1;
            self.changed.notify_all();
            let waited = self.changed.wait_timeout_while(state, PATIENCE, |state| !state.released);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            state.hanging -= 1;
            return Ok((state, None));
        }
        match fault {
            Some(DiskFault::Panic) => panic!("on purpose, in {op:?} at byte {offset}"),
            Some(DiskFault::Errno(errno)) => Err(io::Error::from_raw_os_error(errno)),
            Some(DiskFault::Short) if op == DiskOp::Read => Err(io::ErrorKind::UnexpectedEof.into()),
            Some(DiskFault::Short) if op == DiskOp::Write => Err(io::ErrorKind::WriteZero.into()),
            other => Ok((state, other)),
        }
    }

    fn put(&self, op: DiskOp, offset: u64, len: u64, copy: impl FnOnce(&mut [u8])) -> io::Result<()> {
        let hook = self.state().hook.take();
        if let Some(DiskHook(hook)) = hook {
            hook();
        }
        let (mut state, fault) = self.begin(op, offset, len)?;
        if fault == Some(DiskFault::Drop) || len == 0 {
            return Ok(());
        }
        let range = offset as usize..(offset + len) as usize;
        copy(&mut state.live[range.clone()]);
        if let Some(DiskFault::FlipBit(bit)) = fault {
            flip(&mut state.live[range.clone()], bit);
        }
        let written = state.live[range.clone()].to_vec();
        state.unflushed.push((range.start, written));
        Ok(())
    }
}

fn flip(bytes: &mut [u8], bit: u64) {
    let bit = bit % (bytes.len() as u64 * 8);
    bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
}

impl BlockDevice for MemDisk {
    fn name(&self) -> &str {
        &self.name
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn size_now(&self) -> io::Result<u64> {
        Ok(self.state().size_now.unwrap_or(self.size))
    }

    fn logical_block_size(&self) -> u32 {
        self.logical
    }

    fn physical_block_size(&self) -> u32 {
        self.logical.max(4096)
    }

    fn is_rotational(&self) -> bool {
        self.state().rotational
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let (state, fault) = self.begin(DiskOp::Read, offset, buf.len() as u64)?;
        let at = offset as usize;
        buf.copy_from_slice(&state.live[at..at + buf.len()]);
        if let Some(DiskFault::FlipBit(bit)) = fault {
            flip(buf, bit);
        }
        Ok(())
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.put(DiskOp::Write, offset, buf.len() as u64, |to| to.copy_from_slice(buf))
    }

    fn write_zeroes(&self, offset: u64, len: u64) -> io::Result<()> {
        self.put(DiskOp::Zero, offset, len, |to| to.fill(0))
    }

    /// Leaves garbage, because a discard promises nothing.
    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.put(DiskOp::Discard, offset, len, |to| to.fill(0xdb))
    }

    fn flush(&self) -> io::Result<()> {
        let (mut state, fault) = self.begin(DiskOp::Flush, 0, 0)?;
        if fault.is_none() {
            let DiskState { durable, unflushed, .. } = &mut *state;
            for (at, bytes) in unflushed.drain(..) {
                durable[at..at + bytes.len()].copy_from_slice(&bytes);
            }
        }
        Ok(())
    }

    fn drop_cache(&self) -> io::Result<()> {
        Ok(())
    }

    fn reread_partition_table(&self) -> io::Result<()> {
        self.begin(DiskOp::Reread, 0, 0).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk() -> MemDisk {
        MemDisk::new("mem", vec![1; 4096], 512)
    }

    #[test]
    fn writes_are_live_at_once_and_durable_after_a_flush() {
        let disk = disk();
        disk.write_at(&[2; 512], 512).unwrap();
        assert_eq!((disk.content()[512], disk.durable()[512]), (2, 1));
        disk.flush().unwrap();
        assert_eq!(disk.durable(), disk.content());
        assert_eq!(
            (disk.count(DiskOp::Write), disk.count(DiskOp::Flush), disk.count(DiskOp::Read)),
            (1, 1, 0)
        );
    }

    #[test]
    fn a_cut_leaves_what_was_flushed_and_any_part_of_the_rest() {
        let disk = disk();
        disk.write_at(&[2; 1024], 0).unwrap();
        disk.flush().unwrap();
        disk.write_at(&[3; 1024], 2048).unwrap();
        let mut left: Vec<Vec<u8>> = (0..50)
            .map(|seed| {
                let cut = disk.copy();
                cut.cut(Chance(seed));
                assert!(cut.durable() == cut.content());
                assert!(cut.content()[..1024] == [2; 1024] && cut.content()[1024..2048] == [1; 1024]);
                [2048, 2560].map(|at| cut.content()[at]).to_vec()
            })
            .collect();
        left.sort();
        left.dedup();
        assert_eq!(left, [[1, 1], [1, 3], [3, 1], [3, 3]]);
    }

    #[test]
    fn faults_hit_their_operation_range_and_number() {
        let disk = disk();
        disk.inject(DiskOp::Read, 1024..1536, DiskFault::Errno(libc::EIO), 1);
        let mut buf = vec![0; 1024];
        disk.read_at(&mut buf, 0).unwrap();
        let error = disk.read_at(&mut buf, 512).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EIO));
        disk.read_at(&mut buf, 512).unwrap();

        disk.inject(DiskOp::Write, 0..4096, DiskFault::Drop, 1);
        disk.write_at(&[9; 512], 0).unwrap();
        assert_eq!(disk.content()[0], 1);

        disk.inject(DiskOp::Read, 0..512, DiskFault::FlipBit(9), 1);
        disk.read_at(&mut buf, 0).unwrap();
        assert_eq!((buf[0], buf[1]), (1, 3));

        disk.fail_nth(1, DiskFault::Errno(libc::ENODATA), true);
        disk.read_at(&mut buf, 0).unwrap();
        assert!(disk.flush().is_err() && disk.write_zeroes(0, 512).is_err());
        disk.heal();
        disk.write_zeroes(0, 512).unwrap();
        assert_eq!(disk.content()[0], 0);
    }

    #[test]
    fn transfers_off_the_blocks_or_the_disk_are_refused() {
        let disk = disk();
        assert!(disk.write_at(&[0; 511], 0).is_err());
        assert!(disk.write_at(&[0; 512], 1).is_err());
        assert!(disk.write_at(&[0; 512], 4096).is_err());
        assert!(disk.read_at(&mut [0; 1024], 3584).is_err());
    }
}
