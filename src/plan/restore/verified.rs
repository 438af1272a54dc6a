//! What a signature says of a set, and what must not be restored without one.

use crate::failure::{Failure, Kind};
use crate::job::Action;
use crate::plan::PlanRequest;
use crate::signature::Verdict;
use crate::store::SetDigest;
use crate::store::record::Record;
use std::net::Ipv4Addr;

/// A plain gzip has no record: nothing of it is signed, and it is not one of the sets that a job can name.
pub fn refuse_without_record(request: &PlanRequest) -> Result<(), Failure> {
    let kind = match (request.action, request.signed_for, request.set) {
        (Action::Restore, Some(_), _) => Kind::Signature,
        (_, _, Some(_)) => Kind::NoImage,
        _ => return Ok(()),
    };
    let advice = "nothing was written. Restore it where no signature is demanded, make a set with backup, and sign that.";
    Err(Failure::new(
        kind,
        "there is no backup.json: no set that could be signed, or that testbox.set names",
        advice,
    ))
}

/// Why a set must not be written onto the disks of the machine `ip`, whose initramfs demands signatures.
///
/// A signature is for one machine: else whoever writes to the share could give it the set of another one.
pub fn not_vouched(record: &Record, digest: &SetDigest, ip: Ipv4Addr) -> Option<String> {
    let of = &record.machine.ip;
    let is_own = of.parse() == Ok(ip);
    digest
        .signed
        .why_not()
        .or_else(|| (!is_own).then(|| format!("is signed as a set of {}", of.escape_default())))
}

/// What the result says of the signature of the set that is used.
pub fn about_signature(
    request: &PlanRequest,
    record: &Record,
    digest: &SetDigest,
) -> Result<Option<String>, Failure> {
    let set = format!("set {}", record.generation);
    let refused = request.signed_for.and_then(|ip| not_vouched(record, digest, ip));
    match (&digest.signed, refused) {
        (Verdict::Unsigned, None) => Ok(None),
        // Each new set is unsigned until its admin has seen it: verify it, then sign it.
        (Verdict::Unsigned, Some(_)) => Ok(Some(format!("NOT SIGNED: {set}; a restore will refuse it"))),
        (_, Some(why)) => Err(Failure::new(
            Kind::Signature,
            format!("{set} {why}"),
            "do not rely on this set. If it is what it should be after all: testboxctl sign.",
        )),
        (Verdict::By(who), None) => Ok(Some(format!("{set} is signed by {who}"))),
        (Verdict::Not(why), None) => Ok(Some(format!("BAD SIGNATURE: {set}: {why}"))),
    }
}
