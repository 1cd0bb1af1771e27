package brig

import (
	"fmt"
	"io"
	"time"
)

// A BuildRequest asks for an image by a Dockerfile.
type BuildRequest struct {
	Context    string             // directory on the host with the build context, which the build may read and not change
	Dockerfile string             // its path in the context; "": Dockerfile, or dockerfile
	Tags       []string           // references that the image gets, as given
	Args       map[string]*string // nil values: said without one
	Labels     map[string]string  // added to the image
	Target     string             // name or number of the last stage to build; "": the last
	Platform   string             // of base images without one of their own; "": the host's
	CacheFrom  []string           // images whose steps may be taken as done
	NoCache    bool
	Pull       bool // look for newer base images
	Quiet      bool // only the image's ID is said; what shows the report sees to it
	// Keep has the containers of RUN kept after success (rm=0); ForceRemove has them removed after failure too.
	Keep, ForceRemove bool
	Secrets           map[string][]byte // for RUN --mount=type=secret, by ID

	// Of RUN's containers.
	Network      string // "": default
	ExtraHosts   []string
	Limits       Limits
	Ulimits      []Ulimit
	ShmSize      int64 // bytes
	CgroupParent string
	Security     []string // security options as docker build has them
	Isolation    string
	Epoch        *time.Time      // SOURCE_DATE_EPOCH; nil: times are as they come
	Auths        map[string]Auth // by registry host
}

// A BuildLine is one piece of a build's report: one of its fields is set.
type BuildLine struct {
	Out      string    // text on standard output
	Err      string    // text on standard error
	Progress *Progress // of a pull
	Image    Digest    // that was made: docker build -q, --iidfile
}

// A RunFailed is the error of a RUN whose process has ended with another code than 0. Clients exit with the same.
type RunFailed struct {
	Command string // as it was run, its words joined by spaces
	Code    int
}

// Error says it as Docker does.
func (e *RunFailed) Error() string {
	return fmt.Sprintf("The command '%s' returned a non-zero code: %d", e.Command, e.Code)
}

// A Base is what a stage stands on.
type Base struct {
	ID       Digest // image
	Ref      string // as named
	Digest   Digest // of the manifest it came with, "" if none
	Chain    Digest // its topmost layer, "" for none
	Platform Platform
	Config   ImageConfig
	Layers   int // how many it has
}

// A Step is what the build cache knows of one step that was carried out. Key says what was done on what.
type Step struct {
	Key     string // hex digits
	Parent  string // key of the step before, or the base's; "" for scratch
	Created time.Time
	By      string // the history's created_by
	Chain   Digest // of the file system after it; "" is an empty one
	Own     bool   // Chain is this step's own: it changed the file system
	Size    int64  // bytes of files that it brought
	Diff    Digest // sha256 of its layer's tar; "" as long as nobody needed it
	Used    time.Time
	Count   int  // how often it was taken from the cache
	Shared  bool // an image has it
}

// A BuiltImage says what a build makes: Base's layers and history, and those of Steps.
type BuiltImage struct {
	Base     Digest // image; "": scratch
	Platform Platform
	Config   ImageConfig
	Author   string
	Created  time.Time
	Steps    []BuiltStep
	Tags     []string
	Epoch    *time.Time // times of files in the layers are no later, as SOURCE_DATE_EPOCH
}

// A BuiltStep is one entry of an image's history, and its layer if Chain is set.
type BuiltStep struct {
	Key     string // its record in the cache, "" for none
	Created time.Time
	By      string
	Author  string
	Comment string
	Chain   Digest // "": empty layer
	Parent  Digest // chain that Chain was made of; "": empty
}

// A Tree is a writable file system that a step changes.
type Tree struct {
	ID     RID
	Path   string // where it is mounted on the host
	Parent Digest // the chain that it is a clone of
}

// A StepRun is a process that a build step runs.
type StepRun struct {
	Tree     Tree
	Image    Digest // of the stage's base, "" for scratch
	ImageRef string // what docker ps shows as image
	Platform Platform
	// Spec is complete: nothing is taken from the image. RUN --mount is Spec.Mounts: bind for bind and cache, with a Source on the host (a subdirectory of
	// a Tree that is discarded afterwards for a bind that is rw), and tmpfs, which is noexec and nodev unless TmpfsOpts has exec and dev. Mount points that
	// were not there are gone afterwards, if nothing is in them. Spec.Volumes get anonymous volumes, which go with the container.
	Spec    Spec
	Stdout  io.Writer
	Stderr  io.Writer
	Secrets []Secret
	Started func(ID) // called with the container's ID before it runs; nil: nobody cares
	// Keep has the container stay when it has ended, with a root file system of its own; KeepFailed if it didn't start, or its exit code isn't 0. One whose
	// context has ended goes in any case.
	Keep, KeepFailed bool
}

// A Secret is a file that a step's process sees, and that isn't in what becomes of its file system. Nothing of it is written to a disk.
type Secret struct {
	Target   string // absolute path inside
	Data     []byte
	Mode     uint32 // permission bits
	UID, GID int
}

// Types of a BuildCacheEntry, in Docker's words.
const (
	BuildCacheStep = "regular"         // what a step has left
	BuildCacheDir  = "exec.cachemount" // a directory of RUN --mount=type=cache
)

// A BuildCacheEntry is one thing that builds keep for later ones.
type BuildCacheEntry struct {
	ID          string // hex digits
	Parents     []string
	Type        string
	Description string // a step's By
	InUse       bool   // a build under way has it
	Shared      bool   // an image has it too: its bytes are the image's
	Size        int64  // bytes
	Created     time.Time
	Used        time.Time // last taken from the cache; zero: never
	Count       int       // how often it was taken
}

// A BuildPruneRequest says what of the build cache goes: what no build under way uses, the least recently used first.
type BuildPruneRequest struct {
	All    bool                        // also what is Shared
	Keep   int64                       // bytes that may stay; 0: none
	Before time.Time                   // only what was last used, or made, before; zero: whenever
	Match  func(*BuildCacheEntry) bool // only what this says yes to; nil: all
}

// BuildPruned is what a prune has removed.
type BuildPruned struct {
	IDs   []string
	Freed int64 // bytes
}
