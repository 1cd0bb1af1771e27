package brig

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"
)

// A Container is the record of one container, and what inspect shows. Values handed out are copies (Clone); their owner is runtime.
type Container struct {
	ID       ID
	Name     string // without Docker's leading slash
	Created  time.Time
	Image    Digest   // image ID
	ImageRef string   // as the request named it
	Platform Platform // the image's
	RootFS   RID      // its dataset; also names its run directory
	Chain    Digest   // the image's top chain ID; "" for an empty image
	Driver   string   // storage driver that holds RootFS
	Pod      string   `json:",omitempty"` // UUID of the pod that it is an app of; "": it is a pod of one app by itself
	App      string   `json:",omitempty"` // its name in that pod

	// Tree is where the tree of a build is mounted on the host that is the root file system of this container: it runs one step, and is gone soon after. Only
	// memory knows it; RootFS is the tree's. "": none.
	Tree string `json:"-"`
	// Step says that it has run a step of a build: its root file system stands on more than its image has.
	Step bool `json:",omitempty"`

	Spec       Spec            // request and image merged
	HostConfig json.RawMessage // the API's own document as asked, echoed by inspect; the engine does not read it

	Mounts    []MountPoint        // resolved, in the order of mounting
	Endpoints map[string]Endpoint // by network name; addresses are empty while not running

	Status
	Handle *Handle // nil unless Status.State has a process
	Netns  *Netns  `json:",omitempty"` // of the run, for what comes after it: only with Spec.PostStop

	// Paths of per-container files on the host.
	LogPath, HostnamePath, HostsPath, ResolvConfPath string

	ExecIDs []ID `json:"-"` // execs that run now; filled in by runtime when handed out
}

// Status is the part of a container that changes while it lives.
type Status struct {
	State        State
	PID          int    // of the main process in the host's PID namespace; 0 if none
	ExitCode     int    // of the last run; 128+n for signal n
	Error        string // why the last start failed
	OOMKilled    bool
	StartedAt    time.Time // zero: never
	FinishedAt   time.Time // zero: never
	RestartCount int
	Health       *Health `json:",omitempty"` // replaced, never changed in place; nil: no health check, or it never ran
}

// Health is what the health checks of a container have shown. Log has its newest results, the oldest first.
type Health struct {
	Status        string // HealthStarting, HealthHealthy or HealthUnhealthy
	FailingStreak int
	Log           []HealthResult
}

// Docker's words for health.
const (
	HealthStarting  = "starting"
	HealthHealthy   = "healthy"
	HealthUnhealthy = "unhealthy"
)

// HealthResult is one run of a health check.
type HealthResult struct {
	Start, End time.Time
	ExitCode   int    // 0: healthy; -1: it could not be run, or took too long
	Output     string // its beginning
}

// Clone returns a copy that shares nothing mutable with c. Spec is shared: it is replaced, never changed in place.
func (c *Container) Clone() *Container {
	d := *c
	d.Mounts = slices.Clone(c.Mounts)
	d.Endpoints = maps.Clone(c.Endpoints)
	d.ExecIDs = slices.Clone(c.ExecIDs)
	if c.Handle != nil {
		h := *c.Handle
		d.Handle = &h
	}
	return &d
}

// PodUUID is the UUID of the pod that c is in, or that it is.
func (c *Container) PodUUID() string {
	if c.Pod != "" {
		return c.Pod
	}
	return PodUUID(c.ID)
}

// AppName is the name that c has in its pod: what the pod calls it, or of one by itself its own in the form of an AC Name (appc spec, types.md).
func (c *Container) AppName() string {
	if c.App != "" {
		return c.App
	}
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		}
		return '-'
	}, c.Name)
	if name = strings.Trim(name, "-"); name == "" {
		return "app"
	}
	return name
}

// A Handle lets the next brigd find a running jail again. It is versioned; jailer alone reads it.
type Handle struct {
	Version   int    // 1
	JailID    string // the OCI runtime's container ID; on FreeBSD the jid
	Dir       string // run directory: bundle, socket, exit file
	Socket    string // the shim's
	ShimPID   int
	ShimStart uint64 // start time of the shim (proc(5) stat field 22), so that a reused pid isn't taken for it
	InitPID   int    // 0 before Processes.Start
}

// Spec is what a container shall be. Request values win over the image's; empty means unset.
type Spec struct {
	Image      string // as the request named it
	Hostname   string // "" : the short ID, or the host's in a host UTS namespace
	Domainname string
	User       string // name, number, or absolute path, whose owner is meant; optional :group likewise
	TTY        bool
	OpenStdin  bool
	StdinOnce  bool
	AttachIn   bool // AttachStdin … as asked; they don't change behaviour, inspect echoes them
	AttachOut  bool
	AttachErr  bool

	Entrypoint  []string
	Cmd         []string
	Env         []string // KEY=VALUE; KEY alone removes the image's
	WorkingDir  string
	Shell       []string
	OnBuild     []string
	Labels      map[string]string
	Annotations map[string]string
	Volumes     []string // destinations of anonymous volumes
	Exposed     []Port   // EXPOSE and --expose
	StopSignal  string   // "" : SIGTERM
	StopTimeout *int     // seconds; nil: 10; negative: wait for ever
	Health      *HealthCheck

	Mounts      []Mount
	VolumesFrom []string // container[:ro|rw]

	NetworkMode     string                  // bridge, host, none, container:REF, or a network's name; "" and "default": bridge
	Networks        map[string]EndpointSpec // further settings by network name
	NetworkDisabled bool
	Ports           []PortBinding
	PublishAll      bool
	MacAddress      string
	DNS             DNS
	ExtraHosts      []string // NAME:IP
	Links           []string

	Restart    RestartPolicy
	AutoRemove bool
	Init       *bool // nil: the daemon's default, off

	Privileged      bool
	ReadOnly        bool
	CapAdd, CapDrop []string // as asked, with or without CAP_, ALL allowed
	GroupAdd        []string
	NoNewPrivileges bool
	Seccomp         string   // "": Docker's default profile; "unconfined"; else a profile as JSON
	MaskedPaths     []string // nil: the default list; empty: none
	ReadonlyPaths   []string // likewise
	Sysctls         map[string]string
	Limits          Limits
	Ulimits         []Ulimit
	Devices         []Device
	DeviceRules     []string // devices cgroup rules, "c 1:3 rwm"
	ShmSize         int64    // bytes; 0: 64 MiB
	OomScoreAdj     int
	PidMode         string // "", "host", "container:REF"
	IpcMode         string // "", "private", "host", "shareable", "none", "container:REF"
	UTSMode         string // "", "host"
	UsernsMode      string // "", "host"
	CgroupnsMode    string // "", "host", "private"
	CgroupParent    string
	Log             LogConfig
	StorageOpt      map[string]string
	Runtime         string

	// What appc knows and Docker doesn't (ace.md and aci.md of its specification).
	PreStart, PostStop []string  // commands that run in the jail before the main process, which then doesn't start if it fails, and after its end
	CwdExists          bool      // WorkingDir is not made if it is missing: the start fails
	Sockets            []Port    // the main process gets them listening, from descriptor 3 on (sd_listen_fds(3))
	Syscalls           *Syscalls // nil: as Seccomp says
}

// Syscalls is a filter of system calls by name: Retain lets through the named ones and what it takes to start and end, else the named ones are blocked
// beside those that Docker's default profile blocks.
type Syscalls struct {
	Retain bool
	Names  []string
	Errno  string // that a blocked call gives, as errno(3) names it; "": the process is killed
}

// HealthCheck is as the image spec and Docker's Healthcheck have it.
type HealthCheck struct {
	Test                                          []string // ["NONE"], ["CMD", …] or ["CMD-SHELL", command]
	Interval, Timeout, StartPeriod, StartInterval time.Duration
	Retries                                       int
}

// RestartPolicy has Docker's names: "", "no", "always", "unless-stopped", "on-failure".
type RestartPolicy struct {
	Name       string
	MaxRetries int
}

// Limits are what cgroups or rctl shall hold the container to; 0 means none unless said otherwise.
type Limits struct {
	Memory, MemoryReservation int64 // bytes
	MemorySwap                int64 // bytes, memory and swap together; -1: no limit; 0: twice Memory
	MemorySwappiness          *int64
	OomKillDisable            bool
	NanoCPUs                  int64 // CPUs times 1e9
	CPUShares                 int64
	CPUPeriod, CPUQuota       int64 // µs
	CPURealtimePeriod         int64 // µs
	CPURealtimeRuntime        int64 // µs
	CpusetCPUs, CpusetMems    string
	Pids                      int64 // 0 and -1: none
	BlkioWeight               uint16
	BlkioThrottle             []ThrottleDevice
}

// ThrottleDevice limits one block device. What is one of "read_bps", "write_bps", "read_iops", "write_iops".
type ThrottleDevice struct {
	What, Path string
	Rate       uint64 // per second
}

// Ulimit has getrlimit(2)'s resource name in lower case without RLIMIT_, as docker's --ulimit; -1 is no limit.
type Ulimit struct {
	Name       string
	Soft, Hard int64
}

// Device makes a host device visible inside.
type Device struct{ Host, Container, Permissions string }

// LogConfig selects a log driver and its options.
type LogConfig struct {
	Driver  string // "": json-file
	Options map[string]string
}

// CreateRequest asks runtime for a container.
type CreateRequest struct {
	Name       string // "": a random one
	Platform   string // "": the host's own, os/arch[/variant] otherwise
	Spec       Spec
	HostConfig json.RawMessage
}

// RemoveOptions are docker rm's.
type RemoveOptions struct {
	Force, Volumes bool
	Link           bool // not the container, but the link that the reference names, PARENT/ALIAS
}

// StopOptions are docker stop's and restart's.
type StopOptions struct {
	Signal  string // "": the container's StopSignal
	Timeout *int   // seconds; nil: the container's StopTimeout; negative: wait for ever
}

// WaitCondition says what Wait waits for.
type WaitCondition string

// Docker's wait conditions.
const (
	WaitNotRunning WaitCondition = "not-running"
	WaitNextExit   WaitCondition = "next-exit"
	WaitRemoved    WaitCondition = "removed"
)

// Exit is how a run ended. A shim writes it as the exit file.
type Exit struct {
	Code      int // 0–255; 128+n for signal n
	Time      time.Time
	OOMKilled bool
	Error     string // why the wait itself failed, if it did
}

// Exec is one further process in a running container.
type Exec struct {
	ID        ID
	Container ID
	Spec      ExecSpec
	Running   bool
	Started   bool
	ExitCode  *int // nil while it runs and before
	PID       int
}

// ExecSpec is what an exec shall be.
type ExecSpec struct {
	Args                     []string
	Env                      []string // added to the container's own
	WorkingDir, User         string   // "": the container's
	TTY, Privileged          bool
	AttachIn, AttachOut      bool
	AttachErr                bool
	DetachKeys               string
	ConsoleRows, ConsoleCols uint // 0: unset
}

// Processes is what top shows.
type Processes struct {
	Titles []string
	Rows   [][]string
}

// Change is one path of docker diff.
type Change struct {
	Path string // absolute inside the container
	Kind ChangeKind
}

// ChangeKind has the numbers of Docker's API.
type ChangeKind int

// The kinds of change.
const (
	ChangeModified ChangeKind = 0
	ChangeAdded    ChangeKind = 1
	ChangeDeleted  ChangeKind = 2
)
