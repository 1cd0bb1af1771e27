package hostcheck

// An advisory is one of FreeBSD's, about the kernel, that matters to who runs containers of others.
type advisory struct {
	name   string
	what   string
	jail   bool           // it leads out of a jail, or past one of its limits; else to the kernel or to root
	arch   string         // hw.machine_arch; "": all
	fixed  map[string]int // the patch level that has the fix, by release; a release that is not there never had the fault, or came with the fix
	stable map[int]int    // how many commits a stable branch has with it, by major version
}

// supported are the releases that the newest advisory names, from the newest down: those that get fixes.
var supported = []string{"15.1", "15.0", "14.5", "14.4"}

// LastRead is the day, year-month-day, of the newest advisories that are in the table.
const LastRead = "2026-09-29"

// advisories are from the texts at security.FreeBSD.org/advisories, NAME.asc, part "Corrected" and table "Correction details", as they stand in
// the repository freebsd-doc (website/static/security/advisories, commit 1e8ead4f of 2026-09-29). Left out are those before 13.2, which brig
// needs, and those that concern other programs, devices that containers don't have, denial of service, and what leaks a few bytes.
// FreeBSD-SA-26:70 to 94, of October and November 2026, could not be read, and are not here.
var advisories = []advisory{
	{name: "FreeBSD-SA-24:02.tty", what: "a jail sees the host's terminals", jail: true,
		fixed: map[string]int{"14.0": 5, "13.2": 10}, stable: map[int]int{14: 266676, 13: 257418}},
	{name: "FreeBSD-SA-24:14.umtx", what: "umtx, use after free",
		fixed: map[string]int{"14.1": 4, "14.0": 10, "13.3": 6}, stable: map[int]int{14: 268665, 13: 258319}},
	{name: "FreeBSD-SA-26:02.jail", what: "jails that may mount nullfs, which brig's may not", jail: true,
		fixed: map[string]int{"14.3": 8, "13.5": 9}, stable: map[int]int{14: 271804, 13: 259726}},
	{name: "FreeBSD-SA-26:04.jail", what: "directory descriptors between jails that share a directory", jail: true,
		fixed: map[string]int{"14.3": 9, "13.5": 10}, stable: map[int]int{14: 272076, 13: 259752}},
	{name: "FreeBSD-SA-26:10.tty", what: "TIOCNOTTY, use after free",
		fixed: map[string]int{"15.0": 6, "14.4": 2, "14.3": 11, "13.5": 12}, stable: map[int]int{15: 283065, 14: 273997, 13: 259845}},
	{name: "FreeBSD-SA-26:11.amd64", what: "protection keys on large pages", arch: "amd64",
		fixed: map[string]int{"15.0": 6, "14.4": 2, "14.3": 11, "13.5": 12}, stable: map[int]int{15: 283066, 14: 273998, 13: 259846}},
	{name: "FreeBSD-SA-26:13.exec", what: "execve(2), buffer overflow",
		fixed: map[string]int{"15.0": 7, "14.4": 3, "14.3": 12, "13.5": 13}, stable: map[int]int{15: 283376, 14: 274075, 13: 259858}},
	{name: "FreeBSD-SA-26:18.setcred", what: "setcred(2), stack overflow",
		fixed: map[string]int{"15.0": 9, "14.4": 5, "14.3": 14}, stable: map[int]int{15: 281743, 14: 274162}},
	{name: "FreeBSD-SA-26:19.file", what: "poll(2) and select(2), use after free",
		fixed: map[string]int{"15.0": 9, "14.4": 5, "14.3": 14}, stable: map[int]int{15: 283641, 14: 274164}},
	{name: "FreeBSD-SA-26:25.thr", what: "a jail signals processes of the host", jail: true,
		fixed: map[string]int{"15.0": 10, "14.4": 6, "14.3": 15}, stable: map[int]int{15: 283881, 14: 274310}},
	{name: "FreeBSD-SA-26:26.ktls", what: "files that can only be read are overwritten, by kernel TLS",
		fixed: map[string]int{"15.0": 10, "14.4": 6, "14.3": 15}, stable: map[int]int{15: 283882, 14: 274311}},
	{name: "FreeBSD-SA-26:29.ip6_multicast", what: "IPV6_MSFILTER, use after free",
		fixed: map[string]int{"15.0": 10, "14.4": 6, "14.3": 15}, stable: map[int]int{15: 283885, 14: 274314}},
	{name: "FreeBSD-SA-26:30.linux", what: "set-uid programs for Linux load what LD_PRELOAD says",
		fixed: map[string]int{"15.0": 10, "14.4": 6, "14.3": 15}, stable: map[int]int{15: 283886, 14: 274315}},
	{name: "FreeBSD-SA-26:38.jail", what: "a jail's reference count", jail: true,
		fixed: map[string]int{"15.1": 1, "15.0": 11}, stable: map[int]int{15: 283929}},
	{name: "FreeBSD-SA-26:39.execve", what: "set-uid programs changed through linprocfs",
		fixed: map[string]int{"15.1": 1, "15.0": 11, "14.4": 7, "14.3": 16}, stable: map[int]int{15: 284141, 14: 274435}},
	{name: "FreeBSD-SA-26:44.posixshm", what: "large pages of shared memory",
		fixed: map[string]int{"15.1": 1, "15.0": 11, "14.4": 7, "14.3": 16}, stable: map[int]int{15: 284330, 14: 274455}},
	{name: "FreeBSD-SA-26:47.linux", what: "the Linux ABI's waitid shows the kernel's stack",
		fixed: map[string]int{"15.0": 11, "14.4": 7, "14.3": 16}, stable: map[int]int{15: 282671, 14: 273828}},
	{name: "FreeBSD-SA-26:50.kqueue", what: "kqueue's copy on fork, use after free",
		fixed: map[string]int{"15.1": 2}, stable: map[int]int{15: 284642}},
	{name: "FreeBSD-SA-26:54.sysvsem", what: "semctl(2), out of bounds",
		fixed: map[string]int{"15.1": 2, "15.0": 12, "14.4": 8}, stable: map[int]int{15: 284647, 14: 274645}},
	{name: "FreeBSD-SA-26:57.unix", what: "Unix sockets, use after free",
		fixed: map[string]int{"15.1": 3, "15.0": 13}, stable: map[int]int{15: 285079}},
	{name: "FreeBSD-SA-26:62.tty", what: "TIOCSCTTY, use after free",
		fixed: map[string]int{"15.1": 3, "15.0": 13, "14.4": 9}, stable: map[int]int{15: 285147, 14: 275048}},
	{name: "FreeBSD-SA-26:63.posixshm", what: "large pages of shared memory",
		fixed: map[string]int{"15.1": 3, "15.0": 13, "14.4": 9}, stable: map[int]int{15: 285148, 14: 275049}},
	{name: "FreeBSD-SA-26:64.sysvsem", what: "semop(2), out of bounds",
		fixed: map[string]int{"15.1": 4, "15.0": 14, "14.5": 1, "14.4": 10}, stable: map[int]int{15: 285676, 14: 275239}},
	{name: "FreeBSD-SA-26:65.kqueue", what: "kqueue's copy on fork",
		fixed: map[string]int{"15.1": 4}, stable: map[int]int{15: 285678}},
	{name: "FreeBSD-SA-26:69.udp", what: "a jail without a network stack of its own reaches the host's ::1", jail: true,
		fixed: map[string]int{"15.1": 4, "15.0": 14, "14.5": 1, "14.4": 10}, stable: map[int]int{15: 285663, 14: 275237}},
	{name: "FreeBSD-SA-26:66.jail", what: "directory descriptors from another jail", jail: true,
		fixed: map[string]int{"15.1": 4, "15.0": 14, "14.5": 1, "14.4": 10}, stable: map[int]int{15: 285682, 14: 275243}},
}

// newest is the advisory that a release that gets no fixes any more is measured by.
func newest() advisory { return advisories[len(advisories)-1] }
