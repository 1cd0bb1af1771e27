package brig

import (
	"errors"
	"io"
)

// A Jail is all that jailer needs to make one container's jail: nothing in it names an image or a record.
type Jail struct {
	ID       ID
	Dir      string // run directory for this jail alone, made by runtime, mode 0700
	Root     string // its mounted root file system
	Hostname string
	Netns    Netns
	Mounts   []JailMount // in order, outer paths first; /proc, /dev, /sys, /dev/shm and the like are jailer's own
	Args     []string    // entrypoint and command; never empty
	Env      []string    // complete
	Cwd      string      // made if missing
	LogPath  string      // "" : no log is kept
	Log      LogSink     // how it is kept, and where else the output goes
	OS       string      // that the image is for: linux or freebsd
	Cgroup   string      // parent for this jail, absolute in each hierarchy
	// PID, IPC: handle of the jail to share with; nil: as Spec's modes say.
	PIDOf, IPCOf *Handle
	Pod          *Sandbox // of the pod whose app this is; nil: what it has is its own
	Spec         Spec
}

// LogSink is what a log driver's options ask of the process that writes the log.
type LogSink struct {
	MaxSize  int64   // bytes at which a log file is full; 0: never
	MaxFiles int     // log files at most; less than 2: only the one that is written
	Compress bool    // full files
	Attrs    string  // JSON object that each line carries; "": none
	Syslog   *Syslog // nil: the output goes to no syslog
}

// Syslog is where and how output is sent as syslog messages.
type Syslog struct {
	Network, Address string // unix and unixgram with a path, tcp and udp with host:port; both empty: the host's own syslog
	Facility         int    // 0–23
	Format           string // "", rfc3164, rfc5424 or rfc5424micro
	Tag, Hostname    string
}

// JailMount is one mount inside a jail.
type JailMount struct {
	Type    MountType // bind or tmpfs
	Source  string
	Sub     string // a directory beneath Source, which the jailer finds without following a link out of that; "": Source itself. FreeBSD alone
	Target  string
	Options []string // mount(8) words: ro, rprivate, nosuid, size=…
}

// ErrDetached is returned by an attach whose Stdin gave it: the user typed the detach keys.
var ErrDetached = errors.New("detached")

// ErrClientGone is the cause of the end of a context (context.Cause) that a client held: input that it gave has then ended, too.
var ErrClientGone = errors.New("the client has gone")

// IO connects a process's standard streams. Writers may block; then the process does too.
type IO struct {
	Stdin  io.Reader // nil: not attached. EOF half-closes the process's stdin if CloseStdin; an ErrDetached ends the attach
	Stdout io.Writer // nil: not attached. With a TTY all output comes here
	Stderr io.Writer
	// CloseStdin is Docker's StdinOnce.
	CloseStdin bool
	// Attached, if set, is called once when no byte from now on can be missed.
	Attached func()
}

// AttachOptions are docker attach's.
type AttachOptions struct {
	Logs   bool // replay the log first
	Stream bool // stay for what comes
}

// LogOptions are docker logs'. Zero times are unset.
type LogOptions struct {
	Stdout, Stderr, Follow bool
	Tail                   int   // lines; negative: all
	Since, Until           int64 // Unix nanoseconds; 0: unset
}

// LogEntry is one line, or a piece of one, as the log has it.
type LogEntry struct {
	Stream string            // stdout or stderr
	Time   int64             // Unix nanoseconds
	Line   []byte            // with its newline, unless it is a piece or the last of a stream; valid until the next entry
	Attrs  map[string]string // what log options have each line carry; not to be changed
}

// PathStat is what X-Docker-Container-Path-Stat holds.
type PathStat struct {
	Name       string
	Size       int64
	Mode       uint32 // io/fs.FileMode bits
	Mtime      string // RFC 3339
	LinkTarget string
}
