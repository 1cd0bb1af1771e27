package elfcheck

// An effect is what the lack of a system call means to a program.
type effect struct {
	why     string   // what doesn't work without it
	try     bool     // programs try it and do otherwise when it fails, so that its lack is a note
	aliases []string // functions of libraries that need it and have another name
	about   []string // programs that are there for it, or that are known to end without it
}

// nowhere are calls that today's Linux on these machines hasn't either (syscalls(2)).
var nowhere = map[string]bool{
	"afs_syscall": true, "create_module": true, "epoll_ctl_old": true, "epoll_wait_old": true, "get_kernel_syms": true, "get_thread_area": true,
	"getpmsg": true, "nfsservctl": true, "putpmsg": true, "query_module": true, "restart_syscall": true, "security": true, "set_thread_area": true,
	"tuxcall": true, "uselib": true, "vserver": true, "lookup_dcookie": true, "remap_file_pages": true,
}

var (
	xattr       = effect{why: "extended attributes: the file system is as one without them", try: true}
	numa        = effect{why: "placing of memory on NUMA nodes", try: true}
	mqueue      = effect{why: "POSIX message queues"}
	aio         = effect{why: "asynchronous input and output of the kernel (libaio)"}
	uring       = effect{why: "io_uring", try: true}
	pkeys       = effect{why: "memory protection keys", try: true}
	landlock    = effect{why: "a program can't confine itself by Landlock", try: true}
	newMount    = effect{why: "the newer interface of mounting", try: true}
	pidfd       = effect{why: "descriptors of processes", try: true}
	modules     = effect{why: "modules of the kernel", about: []string{"insmod", "modprobe", "rmmod", "kmod"}}
	kexec       = effect{why: "starting another kernel", about: []string{"kexec"}}
	keys        = effect{why: "the kernel's key rings", about: []string{"keyctl", "request-key"}}
	inotify     = effect{why: "changes of files are not noticed (inotify)", about: []string{"inotifywait", "inotifywatch", "inotifyd", "incrond"}}
	fanotify    = effect{why: "changes of files are not noticed (fanotify)", about: []string{"fatrace", "fanotify"}}
	runtimes    = []string{"runc", "crun", "youki", "bwrap", "dockerd", "containerd", "podman", "buildah", "buildkitd", "buildkit-runc", "lxc-start", "systemd", "rootlesskit"}
	signalfd    = effect{why: "signals by descriptor (signalfd)", about: []string{"postgres"}} // from version 14 on it ends if this fails
	otherMemory = effect{why: "reading another process's memory by process_vm_readv and process_vm_writev", try: true}
)

// effects are by the call's name. A call that isn't here degrades; TestEffects holds that there is none.
var effects = map[string]effect{
	"add_key": keys, "request_key": keys, "keyctl": keys,
	"adjtimex":      {why: "adjusting the clock", aliases: []string{"ntp_adjtime"}, about: []string{"adjtimex", "ntpd"}},
	"clock_adjtime": {why: "adjusting the clock", about: []string{"ntpd"}},
	"bpf":           {why: "programs in the kernel (BPF)", about: []string{"bpftool", "bpftrace", "cilium-agent"}},
	"cachestat":     {why: "the state of the page cache", try: true},
	"close_range":   {why: "closing many descriptors at once", try: true},
	"execveat":      {why: "executing by descriptor", try: true, aliases: []string{"fexecve"}},
	"fchmodat2":     {why: "the mode of a link", try: true},
	"fanotify_init": fanotify, "fanotify_mark": fanotify,
	"init_module": modules, "finit_module": modules, "delete_module": modules,
	"futex_waitv":   {why: "waiting for several futexes", try: true},
	"get_mempolicy": numa, "set_mempolicy": numa, "set_mempolicy_home_node": numa, "mbind": numa, "migrate_pages": numa, "move_pages": numa,
	"getxattr": xattr, "lgetxattr": xattr, "fgetxattr": xattr, "setxattr": xattr, "lsetxattr": xattr, "fsetxattr": xattr,
	"listxattr": xattr, "llistxattr": xattr, "flistxattr": xattr, "removexattr": xattr, "lremovexattr": xattr, "fremovexattr": xattr,
	"inotify_init": inotify, "inotify_init1": {why: inotify.why, about: inotify.about},
	"inotify_add_watch": inotify, "inotify_rm_watch": inotify,
	"io_setup": aio, "io_destroy": aio, "io_submit": aio, "io_cancel": aio, "io_getevents": aio,
	"io_pgetevents":  {why: "asynchronous input and output of the kernel (libaio)", try: true},
	"io_uring_setup": {why: uring.why, try: true, aliases: []string{"io_uring_queue_init", "io_uring_queue_init_params"}}, "io_uring_enter": uring, "io_uring_register": uring,
	"ioperm":     {why: "ports of the machine"},
	"ioprio_get": {why: "priorities of input and output", try: true}, "ioprio_set": {why: "priorities of input and output", try: true},
	"kcmp":       {why: "comparing what processes share", try: true},
	"kexec_load": kexec, "kexec_file_load": kexec,
	"landlock_create_ruleset": landlock, "landlock_add_rule": landlock, "landlock_restrict_self": landlock,
	"membarrier":   {why: "barriers of memory for all threads", try: true},
	"memfd_secret": {why: "memory that the kernel can't read", try: true},
	"mlock2":       {why: "locking of memory when it is first used", try: true},
	"modify_ldt":   {why: "segments of one's own (16-bit programs)"},
	"open_tree":    newMount, "move_mount": newMount, "fsopen": newMount, "fsconfig": newMount, "fsmount": newMount, "fspick": newMount, "mount_setattr": newMount,
	"mq_open": mqueue, "mq_unlink": mqueue, "mq_timedsend": {why: mqueue.why, aliases: []string{"mq_send"}},
	"mq_timedreceive": {why: mqueue.why, aliases: []string{"mq_receive"}}, "mq_notify": mqueue, "mq_getsetattr": {why: mqueue.why, aliases: []string{"mq_getattr", "mq_setattr"}},
	"openat2":         {why: "opening beneath a directory in one call", try: true},
	"perf_event_open": {why: "the processor's counters", about: []string{"perf"}},
	"pidfd_open":      pidfd, "pidfd_getfd": pidfd, "pidfd_send_signal": pidfd,
	"pivot_root": {why: "changing the root file system", about: append([]string{"pivot_root", "switch_root"}, runtimes...)},
	"pkey_alloc": pkeys, "pkey_free": pkeys, "pkey_mprotect": pkeys,
	"preadv2": {why: "reading with flags", try: true, aliases: []string{"preadv64v2"}}, "pwritev2": {why: "writing with flags", try: true, aliases: []string{"pwritev64v2"}},
	"process_madvise":   {why: "advice on another process's memory", try: true},
	"process_mrelease":  {why: "freeing a killed process's memory", try: true},
	"process_vm_readv":  otherMemory,
	"process_vm_writev": otherMemory,
	"quotactl":          {why: "disk quotas", about: []string{"quotaon", "quotaoff", "quotacheck", "setquota", "repquota", "edquota"}},
	"quotactl_fd":       {why: "disk quotas", try: true},
	"readahead":         {why: "reading ahead", try: true},
	"sched_getattr":     {why: "deadlines of processes", try: true}, "sched_setattr": {why: "deadlines of processes", try: true},
	"setfsuid": {why: "another user for files alone (file servers)"}, "setfsgid": {why: "another group for files alone (file servers)"},
	"setns":    {why: "entering namespaces: there are none", about: append([]string{"nsenter"}, runtimes...)},
	"unshare":  {why: "making namespaces: there are none", about: append([]string{"unshare"}, runtimes...)},
	"signalfd": signalfd, "signalfd4": signalfd,
	"swapoff": {why: "turning swap space off", about: []string{"swapoff"}},
	"sync":    {why: "writing all file systems to disk", try: true},
	"sysfs":   {why: "the types of file systems by number", try: true},
	"tee":     {why: "copying between pipes within the kernel"}, "vmsplice": {why: "moving memory into a pipe"},
	"umount2":     {why: "unmounting", aliases: []string{"umount"}, about: []string{"umount"}},
	"userfaultfd": {why: "page faults by descriptor", about: []string{"criu"}},
	"vhangup":     {why: "hanging up a terminal", try: true},
}

// A limit is what brig's jails don't allow, or allow with a capability alone (jailer/jailspec).
type limit struct {
	effect
	calls      []string // functions, of Linux or FreeBSD
	numbers    map[string][]int
	permission string // of jail(8)
	capability string // of Docker's that gives it; "": nothing does
}

// limits hold for images of both systems.
var limits = []limit{
	{effect{why: "no mounts from inside: use docker's -v and --mount", about: []string{"mount", "umount", "mount.nfs", "mount_nullfs", "mount_nfs", "fusermount", "fusermount3"}},
		[]string{"mount", "nmount", "umount2", "umount", "unmount"}, map[string][]int{"amd64": {165, 166}, "arm64": {40, 39}}, "allow.mount", ""},
	{effect{why: "locking of memory is refused", try: true}, []string{"mlock", "mlockall", "mlock2"},
		map[string][]int{"amd64": {149, 151}, "arm64": {228, 230}}, "allow.mlock", "IPC_LOCK"},
	{effect{why: "flags of files (schg, uchg) can't be changed", try: true, about: []string{"chflags"}}, []string{"chflags", "fchflags", "lchflags", "chflagsat"}, nil, "allow.chflags", "LINUX_IMMUTABLE"},
	{effect{why: "the host name is docker's -h", try: true}, []string{"sethostname"}, map[string][]int{"amd64": {170}, "arm64": {161}}, "allow.set_hostname", "SYS_ADMIN"},
	{effect{why: "no jails within jails", about: []string{"jail"}}, []string{"jail", "jail_set", "jail_attach"}, nil, "children.max", ""},
	{effect{why: "jails load no modules of the kernel", about: []string{"kldload", "kldunload"}}, []string{"kldload", "kldunload"}, nil, "", ""},
	{effect{why: "jails can't set the clock", about: []string{"ntpd", "ntpdate", "hwclock", "openntpd"}}, []string{"settimeofday", "clock_settime", "adjtime", "ntp_adjtime", "stime"},
		map[string][]int{"amd64": {164, 227}, "arm64": {170, 112}}, "", ""},
	{effect{why: "jails don't restart the machine", about: []string{"reboot", "halt", "poweroff"}}, []string{"reboot"}, map[string][]int{"amd64": {169}, "arm64": {142}}, "", ""},
	{effect{why: "jails don't manage swap space", about: []string{"swapon", "swapoff"}}, []string{"swapon", "swapoff"}, map[string][]int{"amd64": {167, 168}, "arm64": {224, 225}}, "", ""},
	{effect{why: "devices can't be made, only named pipes", try: true}, []string{"mknod", "mknodat"}, map[string][]int{"amd64": {133, 259}, "arm64": {33}}, "", ""},
}

// rawSockets are programs that need raw sockets. Nothing in a program says that it opens any, so these are known by name.
var rawSockets = []string{"ping", "ping6", "arping", "fping", "traceroute", "traceroute6", "tracepath", "mtr", "mtr-packet", "nmap", "hping3"}
