//! Brings a share here by NFS, with mount(2) and nothing else.
