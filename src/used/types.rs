//! What a partition's type in its table says against the file system that seems to be in it.
#![forbid(unsafe_code)]

use super::{lvm, swap};

/// Whether the type is that of a partition with hashes of dm-verity, or of the signature of their root: all `-verity` and
/// `-verity-sig` types of the Discoverable Partitions Specification. The types of root and usr alone are no sign.
pub(super) fn is_verity(type_id: &str) -> bool {
    VERITY.binary_search(&type_id).is_ok()
}

/// Why `kind` cannot be what a partition of this type holds. Only types that say that something lies between the file
/// system and the partition, or that there is none, can contradict: all others are chosen too freely.
pub(super) fn contradiction(type_id: &str, kind: &str) -> Option<String> {
    let (_, says, allowed) = TYPES.iter().find(|(id, ..)| *id == type_id)?;
    (!allowed.contains(&kind)).then(|| format!("the partition table says that it is {says}"))
}

/// Types, what they say, and the formats that agree with it. GUIDs: UEFI 2.10, the Discoverable Partitions Specification,
/// and util-linux's `include/pt-gpt-partnames.h`; of MBR, its `include/pt-mbr-partnames.h`.
const TYPES: &[(&str, &str, &[&str])] = &[
    ("0657fd6d-a4ab-43c4-84e5-0933c84b4f4f", "Linux swap", &[swap::KIND]),
    ("82", "Linux swap or Solaris", &[swap::KIND]),
    ("e6d6d379-f507-44c2-a23c-238f2a3df928", "Linux LVM", &[lvm::KIND]),
    ("8e", "Linux LVM", &[lvm::KIND]),
    ("a19d880f-05fc-4d3b-a006-743f0f84911e", "Linux RAID", &[]),
    ("fd", "Linux RAID", &[]),
    ("ca7d7ccb-63ed-4c53-861c-1742536059cc", "encrypted with LUKS", &[]),
    ("e8", "encrypted with LUKS", &[]),
    ("7ffec5c9-2d00-49b7-8941-3ea10a5586b7", "encrypted with dm-crypt", &[]),
    ("21686148-6449-6e6f-744e-656564454649", "a BIOS boot partition, without a file system", &[]),
    ("e3c9e316-0b5c-4db8-817d-f92df00215ae", "Microsoft reserved, without a file system", &[]),
    ("9e1a2d38-c612-4316-aa26-8b49521e5a8b", "a PReP boot partition, without a file system", &[]),
    ("41", "a PReP boot partition, without a file system", &[]),
    ("fe3a2a5d-4f32-41a7-b725-accc3285a309", "a kernel of ChromeOS", &[]),
    // Checked by dm-verity, with the tree behind the file system and its table on the kernel command line.
    ("3cb8e202-3b7e-47dd-8a3c-7ff2a13cfcec", "a root of ChromeOS, hashed by dm-verity", &[]),
    ("516e7cb5-6ecf-11d6-8ff8-00022d09712b", "FreeBSD swap", &[]),
    ("516e7cb6-6ecf-11d6-8ff8-00022d09712b", "FreeBSD UFS", &[]),
    ("516e7cba-6ecf-11d6-8ff8-00022d09712b", "FreeBSD ZFS", &[]),
    ("6a898cc3-1dd2-11b2-99a6-080020736631", "ZFS", &[]),
    ("48465300-0000-11aa-aa11-00306543ecac", "Apple HFS+", &[]),
    ("7c3457ef-0000-11aa-aa11-00306543ecac", "Apple APFS", &[]),
    ("aa31e02a-400f-11db-9590-000c2911d1b8", "VMFS", &[]),
    ("fb", "VMFS", &[]),
];

/// In order.
const VERITY: [&str; 84] = [
    "05816ce2-dd40-4ac6-a61d-37d32dc1ba7d",
    "0b888863-d7f8-4d9e-9766-239fce4d58af",
    "143a70ba-cbd3-4f06-919f-6c05683a78bc",
    "15de6170-65d3-431c-916e-b0dcd8393f25",
    "16b417f8-3e06-4f57-8dd2-9b5232f41aa6",
    "17440e4f-a8d0-467f-a46e-3912ae6ef2c5",
    "1b31b5aa-add9-463a-b2ed-bd467fc857e7",
    "24b2d975-0f97-4521-afa1-cd531e421b8d",
    "2c7357ed-ebd2-46d9-aec1-23d437ec2bf5",
    "2fb4bf56-07fa-42da-8132-6b139f2026ae",
    "31741cc4-1a2a-4111-a581-e00b447d2d06",
    "3482388e-4254-435a-a241-766a065f9960",
    "3a112a75-8729-4380-b4cf-764d79934448",
    "3c3d61fe-b5f3-414d-bb71-8739a694a4ef",
    "3e23ca0b-a4bc-4b4e-8087-5ab6a26aa8a9",
    "3f324816-667b-46ae-86ee-9b0c0c6c11b4",
    "41092b05-9fc8-4523-994f-2def0408b176",
    "42b0455f-eb11-491d-98d3-56145ba9d037",
    "43ce94d4-0f3d-4999-8250-b9deafd98e6e",
    "450dd7d1-3224-45ec-9cf2-a43a346d71ee",
    "46b98d8d-b55c-4e8f-aab3-37fca7f80752",
    "4ede75e2-6ccc-4cc8-b9c7-70334b087510",
    "579536f8-6a33-4055-a95a-df2d5e2c42a8",
    "5843d618-ec37-48d7-9f12-cea8e08768b2",
    "5996fc05-109c-48de-808b-23fa0830b676",
    "5afb67eb-ecc8-4f85-ae8e-ac1e7c50e7d0",
    "5c6e1c76-076a-457a-a0fe-f3b4cd21ce6e",
    "6a491e03-3be7-4545-8e38-83320e0ea880",
    "6db69de6-29f4-4758-a7a5-962190f00ce3",
    "6e11a4e7-fbca-4ded-b9e9-e1a512bb664e",
    "6e5a1bc8-d223-49b7-bca8-37a5fcceb996",
    "7007891d-d371-4a80-86a4-5cb875b9302e",
    "7386cdf2-203c-47a9-a498-f2ecce45a2d6",
    "77ff5f63-e7b6-4633-acf4-1565b864c0e6",
    "7a430799-f711-4c7e-8e5b-1d685bd48607",
    "7ac63b47-b25c-463b-8df8-b4a94e6c90e1",
    "81cf9d90-7458-4df4-8dcf-c8a3a404f09b",
    "86ed10d5-b607-45bb-8957-d350f23d0571",
    "8cce0d25-c0d0-4a44-bd87-46331bf1df67",
    "8de58bc2-2a43-460d-b14e-a76e4a17b47f",
    "8f1056be-9b05-47c4-81d6-be53128e5b54",
    "8f461b0d-14ee-4e81-9aa9-049b6fb97abd",
    "904e58ef-5c65-4a31-9c57-6af5fc7c5de7",
    "906bd944-4589-4aae-a4e4-dd983917446a",
    "9225a9a3-3c19-4d89-b4f6-eeff88f17631",
    "94f9a9a1-9971-427a-a400-50cb297f0f35",
    "966061ec-28e4-4b2e-b4a5-1f0a825a1d84",
    "974a71c0-de41-43c3-be5d-5c5ccd1ad2c0",
    "97ae158d-f216-497b-8057-f7f905770f54",
    "98cfe649-1588-46dc-b2f0-add147424925",
    "ae0253be-1167-4007-ac68-43926c14c5de",
    "b024f315-d330-444c-8461-44bbde524e99",
    "b325bfbe-c7be-4ab8-8357-139e652d2f6b",
    "b3671439-97b0-4a53-90f7-2d5a8f3ad47b",
    "b663c618-e7bc-4d6d-90aa-11b756bb1797",
    "b6ed5582-440b-4209-b8da-5ff7c419ea3d",
    "bba210a2-9c5d-45ee-9e87-ff2ccbd002d0",
    "bdb528a5-a259-475f-a87d-da53fa736a07",
    "c215d751-7bcd-4649-be90-6627490a4c05",
    "c23ce4ff-44bd-4b00-b2d4-b41b3419e02a",
    "c3836a13-3137-45ba-b583-b16c50fe5eb4",
    "c80187a5-73a3-491a-901a-017c3fa953e9",
    "c8bfbd1e-268e-4521-8bba-bf314c399557",
    "c919cc1f-4456-4eff-918c-f75e94525ca5",
    "cb1ee4e3-8cd0-4136-a0a4-aa61a32e8730",
    "d13c5d3b-b5d1-422a-b29f-9454fdc89d76",
    "d212a430-fbc5-49f9-a983-a7feef2b8d0e",
    "d2f9000a-7a18-453f-b5cd-4d32f77a7b32",
    "d46495b7-a053-414f-80f7-700c99921ef8",
    "d4a236e7-e873-4c07-bf1d-bf6cf7f1c3c6",
    "d7d150d2-2a04-4a33-8f12-16651205ff7b",
    "d7ff812f-37d1-4902-a810-d76ba57b975a",
    "df3300ce-d69f-4c92-978c-9bfb0f38d820",
    "df765d00-270e-49e5-bc75-f47bb2118b09",
    "e7bb33fb-06cf-4e81-8273-e543b413e2e2",
    "e98b36ee-32ba-4882-9b12-0ce14655f46a",
    "ee2b9983-21e8-4153-86d9-b6901a54d1ce",
    "efe0f087-ea8d-4469-821a-4c2a96a8386a",
    "f2c2c7ee-adcc-4351-b5c6-ee9816b66e16",
    "f3393b22-e9af-4613-a948-9d3bfbd0c535",
    "f46b2c26-59ae-48f0-9106-c50ed47f673d",
    "f5e2c20c-45b2-4ffa-bce9-2a60737e1aaf",
    "fc56d9e9-e6e5-4c06-be32-e74407ce09a5",
    "fca0598c-d880-4591-8c16-4eda05c7347c",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_contradict_what_cannot_be_in_them() {
        for (type_id, kind, contradicts) in [
            ("0657fd6d-a4ab-43c4-84e5-0933c84b4f4f", "ext4", true),
            ("0657fd6d-a4ab-43c4-84e5-0933c84b4f4f", "swap", false),
            ("82", "xfs", true),
            ("82", "swap", false),
            ("8e", "LVM2", false),
            ("8e", "btrfs", true),
            ("ca7d7ccb-63ed-4c53-861c-1742536059cc", "ext4", true),
            ("a19d880f-05fc-4d3b-a006-743f0f84911e", "swap", true),
            // Types that people choose freely, and a disk without a table.
            ("0fc63daf-8483-4772-8e79-3d69d8477de4", "ntfs", false),
            ("83", "fat32", false),
            ("07", "ext4", false),
            ("c12a7328-f81f-11d2-ba4b-00a0c93ec93b", "fat16", false),
            ("", "ext4", false),
        ] {
            assert_eq!(contradiction(type_id, kind).is_some(), contradicts, "{type_id} {kind}");
        }
    }

    #[test]
    fn verity_types_are_known_and_root_and_usr_types_are_none() {
        assert!(VERITY.is_sorted());
        for (type_id, verity) in [
            ("2c7357ed-ebd2-46d9-aec1-23d437ec2bf5", true),
            ("41092b05-9fc8-4523-994f-2def0408b176", true),
            ("77ff5f63-e7b6-4633-acf4-1565b864c0e6", true),
            ("df3300ce-d69f-4c92-978c-9bfb0f38d820", true),
            ("4f68bce3-e8cd-4db1-96e7-fbcaf984b709", false),
            ("8484680c-9521-48c6-9c11-b0720656f69e", false),
            ("", false),
        ] {
            assert_eq!(is_verity(type_id), verity, "{type_id}");
        }
    }
}
