//! Options whose value is one of a few words.

use crate::text::choice;

choice! {
    /// Whether a restore reads what the disk holds before it writes: `testbox.delta=`.
    #[derive(Default)]
    Delta {
        /// As long as reading first saves more than it costs.
        #[default]
        Auto = "auto",
        /// Nothing that is right is written.
        Always = "always",
        /// Everything is written.
        Never = "never",
    }
}

choice! {
    /// Whether a restore reads twice what it needs of an image and has no memory for: `testbox.read-twice=`.
    #[derive(Default)]
    ReadTwice {
        /// Once to prove it, before the first write, and again to write it.
        #[default]
        Yes = "yes",
        /// Once, and it is proven when it is written: damage that is found then leaves the disk unbootable.
        No = "no",
    }
}

choice! {
    /// How much time a backup takes to make its image smaller: the property of a share, so that equal data makes equal members.
    #[derive(Default)]
    Compression {
        /// The fastest.
        #[default]
        Fast = "1",
        /// A tenth smaller, at about a third of the speed.
        Medium = "3",
        /// For slow links.
        Small = "6",
        /// For links that are slower still, and little room.
        Smallest = "9",
    }
}

choice! {
    /// What a restore does where the image holds nothing because it is unallocated: `testbox.free=`.
    #[derive(Default)]
    FreeSpace {
        /// It stays what it is: neither read nor written. Gaps of a data run that is written anew become zeros.
        #[default]
        Leave = "leave",
        /// The disk is told that nobody needs it; what is there afterwards is up to the disk.
        Discard = "discard",
        /// It becomes zeros, proven as all else.
        Zero = "zero",
    }
}
