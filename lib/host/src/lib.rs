//! The Linux host: systemd over D-Bus, mounts, cgroups, beneath-a-directory file access.
