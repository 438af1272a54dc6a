//! Options whose value is one of a few words.

/// An enum whose variants are the words of a testbox option.
macro_rules! choice {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$vmeta])* $variant,)+ }

        impl $name {
            /// Every variant.
            pub const ALL: &'static [$name] = &[$($name::$variant,)+];

            /// The word on the kernel command line.
            pub fn word(self) -> &'static str {
                match self { $($name::$variant => $word,)+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.word())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::types::WordError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::ALL.iter().copied().find(|v| v.word() == text).ok_or_else(|| {
                    let allowed = [$($word,)+].join(", ");
                    let text = $crate::text::quoted(text);
                    $crate::types::WordError::new(format!("{text} is none of {allowed}"))
                })
            }
        }
    };
}

pub(crate) use choice;

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
    /// What a restore does where the image holds nothing because nobody used it: `testbox.free=`.
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
