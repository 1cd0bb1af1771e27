package dockerapi

import (
	"context"
	"io"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/elfcheck"
	"github.com/brigd/brig/internal/podspec"
)

// The interfaces below are what the handlers ask of the engine. Every ref is a name, an ID, or a unique prefix of an ID.
// Errors carry a Kind (internal/errs) and a text in Docker's words; handlers add nothing.

// Containers makes, shows and removes containers. Values that it returns are copies.
type Containers interface {
	Create(ctx context.Context, r brig.CreateRequest) (id brig.ID, warnings []string, err error)
	Get(ctx context.Context, ref string) (*brig.Container, error)
	List(ctx context.Context) ([]*brig.Container, error) // newest first, all states
	Remove(ctx context.Context, ref string, o brig.RemoveOptions) error
	Rename(ctx context.Context, ref, name string) error
}

// Lifecycle moves containers through their states.
type Lifecycle interface {
	Start(ctx context.Context, ref string) error // NotModified if it runs
	Stop(ctx context.Context, ref string, o brig.StopOptions) error
	Restart(ctx context.Context, ref string, o brig.StopOptions) error
	Kill(ctx context.Context, ref, signal string) error // signal: name with or without SIG, or number; "": KILL
	// Wait's waiter is registered when it returns; the channel gives one Exit, or is closed when ctx ends.
	Wait(ctx context.Context, ref string, c brig.WaitCondition) (<-chan brig.Exit, error)
}

// Freezer pauses and resumes.
type Freezer interface {
	Pause(ctx context.Context, ref string) error
	Unpause(ctx context.Context, ref string) error
}

// Meter watches what containers use.
type Meter interface {
	// Stats calls each once, or with Stream every second until ctx ends, the container is removed, or each fails.
	Stats(ctx context.Context, ref string, o brig.StatsOptions, each func(brig.Stats) error) error
}

// Updates changes containers that are there.
type Updates interface {
	// Update has change alter Spec.Limits, Spec.Restart and HostConfig of a copy, and makes that the container's, live if it runs.
	Update(ctx context.Context, ref string, change func(*brig.Container) error) (warnings []string, err error)
}

// Terminals gives access to a container's streams.
type Terminals interface {
	// Attach returns when the streams have ended, ctx ended, or the user detached (brig.ErrDetached). On a container that does not run
	// it stays for the next run. It calls io.Attached once it is registered.
	Attach(ctx context.Context, ref string, o brig.AttachOptions, io brig.IO) error
	Resize(ctx context.Context, ref string, rows, cols uint) error
	// Logs calls each for every entry; it returns when the log ends (Follow: when the container has ended) or each fails.
	Logs(ctx context.Context, ref string, o brig.LogOptions, each func(brig.LogEntry) error) error
	Top(ctx context.Context, ref string, psArgs []string) (brig.Processes, error)
	Changes(ctx context.Context, ref string) ([]brig.Change, error)
}

// Execs runs further processes in running containers.
type Execs interface {
	ExecCreate(ctx context.Context, ref string, spec brig.ExecSpec) (brig.ID, error)
	// ExecStart runs it. Detached: returns when it runs; else when its streams have ended, or with ErrDetached.
	// Once io.Attached has been called the exec may still fail to start; the error then carries the OCI runtime's words.
	ExecStart(ctx context.Context, exec string, detach bool, io brig.IO) error
	ExecGet(ctx context.Context, exec string) (*brig.Exec, error)
	ExecResize(ctx context.Context, exec string, rows, cols uint) error
}

// Files reads and writes beneath a container's root, volumes included, running or not.
type Files interface {
	StatPath(ctx context.Context, ref, path string) (brig.PathStat, error)
	// GetArchive streams path as a tar whose top entry is path's base name.
	GetArchive(ctx context.Context, ref, path string) (io.ReadCloser, brig.PathStat, error)
	// PutArchive extracts an (optionally compressed) tar into the directory path.
	PutArchive(ctx context.Context, ref, path string, noOverwriteDirNonDir, copyUIDGID bool, tar io.Reader) error
	Export(ctx context.Context, ref string) (io.ReadCloser, error)
}

// Images shows, names and removes images.
type Images interface {
	ImageList(ctx context.Context) ([]brig.ImageInfo, error) // newest first
	ImageGet(ctx context.Context, ref string) (*brig.ImageInfo, error)
	ImageRemove(ctx context.Context, ref string, force, noprune bool) ([]brig.ImageDeleted, error)
	ImageTag(ctx context.Context, ref, repo, tag string) error
	ImageHistory(ctx context.Context, ref string) ([]brig.History, error)
}

// Transfers moves images in and out. Progress is called from one goroutine at a time.
type Transfers interface {
	Pull(ctx context.Context, r brig.PullRequest, progress func(brig.Progress)) error
	// Load takes the images for platform alone, or with "" all.
	Load(ctx context.Context, tar io.Reader, platform string, progress func(brig.Progress)) error
	Save(ctx context.Context, refs []string, w io.Writer) error
	// ImageBlob returns the exact config bytes of an image (kind "config") or its appc manifest (kind "aci").
	ImageBlob(ctx context.Context, ref, kind string) ([]byte, error)
	// ExportACI writes the image as a flat, uncompressed ACI.
	ExportACI(ctx context.Context, ref string, w io.Writer) error
}

// Pushes sends images to registries. Progress is called from one goroutine at a time.
type Pushes interface {
	Push(ctx context.Context, r brig.PushRequest, progress func(brig.Progress)) error
}

// Imports makes images of root file systems.
type Imports interface {
	// Import reads a tar, compressed or not, to its end, or fetches it if the request has a Source (then tar is nil). Its progress ends
	// with the image's ID.
	Import(ctx context.Context, r brig.ImportRequest, tar io.Reader, progress func(brig.Progress)) error
}

// Commits makes images of containers.
type Commits interface {
	Commit(ctx context.Context, r brig.CommitRequest) (brig.Digest, error)
}

// Builds makes images by Dockerfiles.
type Builds interface {
	// Build returns the image. report is called with the pieces of the build's report, in their order, until it returns. It ends early when
	// ctx does. Before the first piece of the report, Invalid is what is wrong with the Dockerfile.
	Build(ctx context.Context, r brig.BuildRequest, report func(brig.BuildLine)) (brig.Digest, error)
}

// Contexts brings what builds copy from, into directories that stay until remove is called.
type Contexts interface {
	// Receive extracts a tar, compressed or not, and reads it to its end unless it fails.
	Receive(ctx context.Context, tar io.Reader) (dir string, remove func(), err error)
	// Fetch gets what an http or https URL gives, or a Git repository; dockerfile is what it is called if it was a Dockerfile alone.
	Fetch(ctx context.Context, remote string, progress func(brig.Progress)) (dir, dockerfile string, remove func(), err error)
}

// Caches is what builds keep for later ones.
type Caches interface {
	BuildCache(ctx context.Context) ([]brig.BuildCacheEntry, error)
	PruneBuilds(ctx context.Context, r brig.BuildPruneRequest) (brig.BuildPruned, error)
}

// Distributions asks registries. Kinds of errors as for a pull.
type Distributions interface {
	Describe(ctx context.Context, ref string, auth brig.Auth) (*brig.Distribution, error)
}

// ACIs takes in App Container Images, and gives out those of layers.
type ACIs interface {
	// ImportACI makes an image of an ACI; a body is read to its end unless it fails. Forbidden: what is wrong with its signature.
	// NotFound: the ACI, or a dependency that no image here satisfies. Progress is called from one goroutine at a time.
	ImportACI(ctx context.Context, r brig.ACIImport, progress func(brig.Progress)) (*brig.ACIImported, error)
	// ExportLayered writes a tar of ACIs, uncompressed, one for each layer of the image, from the lowest up.
	ExportLayered(ctx context.Context, ref string, w io.Writer) error
}

// ACIBuilds builds images as Jetpack does.
type ACIBuilds interface {
	// BuildACI has a command make an image of another one. out and errOut get what the command says; the context has been read before. Invalid: the command
	// has failed, or what it has made is no image.
	BuildACI(ctx context.Context, r brig.ACIBuild, out, errOut io.Writer) (*brig.ACIImported, error)
	// ExportIncremental writes the ACI, uncompressed, that brings an image's own layer to its dependencies. Invalid: there is none.
	ExportIncremental(ctx context.Context, ref string, w io.Writer) error
}

// Variants knows the images of several platforms that have one name, and how they will do.
type Variants interface {
	// ImageFor returns what ref means for a platform. NotFound, in dockerd's words, if it means nothing, or something for other platforms.
	ImageFor(ctx context.Context, ref, platform string) (*brig.ImageInfo, error)
	// ImageForEach returns all that ref means, one for each platform; first what it means where nobody asks for one. NotFound.
	ImageForEach(ctx context.Context, ref string) ([]brig.ImageInfo, error)
	// CheckImage looks at an image for a host as elfcheck.ParseHost reads it; "" is this one. It executes nothing of the image.
	CheckImage(ctx context.Context, ref, platform, host string) (*elfcheck.Report, error)
}

// Trust keeps the keys that may sign ACIs. A prefix is one of ACI names; "" stands for all of them.
type Trust interface {
	TrustList(ctx context.Context) ([]brig.TrustedKey, error)
	// TrustFind reads keys without trusting them: of ring if that isn't empty, of a URL, or those that discovery finds for the prefix.
	TrustFind(ctx context.Context, prefix, url string, ring []byte, insecure bool) ([]brig.TrustedKey, error)
	// TrustAdd trusts all keys of ring.
	TrustAdd(ctx context.Context, prefix string, ring []byte) ([]brig.TrustedKey, error)
	TrustRemove(ctx context.Context, prefix, fingerprint string) error
}

// Volumes keeps named data.
type Volumes interface {
	VolumeCreate(ctx context.Context, spec brig.VolumeSpec) (*brig.Volume, error)
	VolumeGet(ctx context.Context, name string) (*brig.Volume, error)
	VolumeList(ctx context.Context) ([]*brig.Volume, error) // sorted by name
	VolumeRemove(ctx context.Context, name string, force bool) error
	VolumeSize(ctx context.Context, name string) (int64, error) // bytes; it looks at every file
}

// Networks shows networks.
type Networks interface {
	Lookup(ctx context.Context, ref string) (brig.Network, error)
	List(ctx context.Context) ([]brig.Network, error)
}

// Memberships changes which networks there are, and which containers are in them.
type Memberships interface {
	NetworkCreate(ctx context.Context, w brig.Network) (brig.ID, error)
	// NetworkRemove returns Forbidden if a running container is in the network, or if it is predefined.
	NetworkRemove(ctx context.Context, ref string) error
	// NetworkConnect and NetworkDisconnect take effect at once if the container runs, else with its next start.
	NetworkConnect(ctx context.Context, network, container string, spec brig.EndpointSpec) error
	NetworkDisconnect(ctx context.Context, network, container string, force bool) error
}

// Pods makes, shows and removes pods. A container that is an app of none is a pod of one app by itself, and is found as one.
type Pods interface {
	// PodCreate also returns what it was made from: warnings, and what became of isolators.
	PodCreate(ctx context.Context, r podspec.Request, set brig.PodSettings) (*brig.Pod, *podspec.Pod, error)
	PodReify(ctx context.Context, r podspec.Request, set brig.PodSettings) (*podspec.Pod, error) // makes nothing
	PodGet(ctx context.Context, ref string) (*brig.Pod, []*brig.Container, error)                // its containers are in its order
	PodList(ctx context.Context) ([]*brig.Pod, error)                                            // newest first
	PodRemove(ctx context.Context, ref string, force bool) error
}

// PodLifecycle moves all apps of a pod.
type PodLifecycle interface {
	PodStart(ctx context.Context, ref string) error // NotModified if all run
	PodStop(ctx context.Context, ref string, o brig.StopOptions) error
	PodKill(ctx context.Context, ref, signal string) error // signal as in Kill
}

// Housekeeping finds, mends and removes what should not be there.
type Housekeeping interface {
	// Collect removes what nobody needs; with dry it only counts.
	Collect(ctx context.Context, dry bool) (*brig.Collected, error)
	Examine(ctx context.Context, o brig.Examination) (*brig.Diagnosis, error)
}

// Identities says who pods are, to those whom no metadata service answers.
type Identities interface {
	// VerifySignature reports whether signature is that of the pod uuid of content, which it reads to its end.
	VerifySignature(ctx context.Context, uuid, signature string, content io.Reader) (bool, error)
	// JWKS is the set of public keys that verify identity tokens, as JSON.
	JWKS(ctx context.Context) ([]byte, error)
	// Rotate makes a new key that signs; old signatures verify for keep longer.
	Rotate(ctx context.Context, keep time.Duration) error
}

// System is what brigd knows of itself and of the host.
type System interface {
	// Info returns the /info document's engine and host facts.
	Info(ctx context.Context) (SystemInfo, error)
	// CheckAuth tries a login; NotFound, Unauthorized and Unavailable as for a pull.
	CheckAuth(ctx context.Context, server string, auth brig.Auth) (status string, err error)
	// Free is how many bytes the file system that everything is kept in has left.
	Free(ctx context.Context) (int64, error)
	// Publish tells of what only the API knows: a prune as a whole.
	Publish(e brig.Event)
	// Events calls each for past events from since on and then for new ones until until (zero: for ever) or ctx ends.
	// ready is called once all later events will be seen.
	Events(ctx context.Context, since, until time.Time, ready func(), each func(brig.Event) error) error
}

// SystemInfo holds true values only: what could not be found out is left empty, and said in Warnings where it matters.
type SystemInfo struct {
	brig.Info
	ID, Name, Root, ServerVersion   string
	Driver                          string
	DriverStatus                    [][2]string
	KernelVersion, OperatingSystem  string
	OSVersion, OSType, Architecture string
	LogDriver                       string // of containers whose request names none; "": json-file
	NCPU                            int
	MemTotal                        int64
	CgroupDriver, CgroupVersion     string
	MemoryLimit, SwapLimit          bool
	CPUCfsPeriod, CPUCfsQuota       bool
	CPUShares, CPUSet, PidsLimit    bool
	OomKillDisable                  bool
	IPv4Forwarding                  bool
	Runtimes                        map[string]string // OCI runtime's name to its path
	DefaultRuntime, RuntimeVersion  string
	SecurityOptions                 []string
	InsecureRegistries              []string
	Debug                           bool
	NFd, NGoroutines                int
	Warnings                        []string
	BuildTime, GitCommit            string
}
