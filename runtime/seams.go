// Package runtime is the order of steps: what happens, and in which order, when a container or an image is made, used
// and removed. It declares the seams it needs and knows none of their implementations. There are two orchestrators:
// Containers (with volumes and execs) and Images; they share a Bus of events and the Records.
//
// Each container has one lock, held while it changes, and one watcher, the goroutine that waits for its process.
package runtime

import (
	"context"
	"io"
	"net/netip"
	"time"

	"github.com/brigd/brig/internal/brig"
)

// RootFS keeps the writable root file systems of containers. Mount, Unmount and Remove are idempotent.
type RootFS interface {
	// Prepare makes the root file system id as a clone of the image chain parent ("" for an empty one).
	// size is the quota in bytes, 0 for none; a driver that can't hold it returns NotImplemented.
	// NotFound: no such chain. Conflict: id exists.
	Prepare(ctx context.Context, id brig.RID, parent brig.Digest, size int64) error
	// Mount makes it visible on the host and returns where.
	Mount(ctx context.Context, id brig.RID) (path string, err error)
	Unmount(ctx context.Context, id brig.RID) error
	// Diff lists what differs from the parent, sorted by path. It works on a mounted and on an unmounted one.
	Diff(ctx context.Context, id brig.RID) ([]brig.Change, error)
	// Remove unmounts and deletes it; one that is not there is removed already.
	Remove(ctx context.Context, id brig.RID) error
}

// Layers keeps image chains. Drop and Sweep are idempotent.
type Layers interface {
	Has(ctx context.Context, chain brig.Digest) (bool, error)
	// Apply reads the uncompressed layer tar to its end and applies it on top of parent ("" for the lowest layer) as chain.
	// It commits only if the tar's sha256 is diff, else it returns Invalid and leaves nothing. A chain that is there already is
	// returned as it is, with the tar unread. If below isn't nil, parent may still be in the making: below waits for it, or says why it
	// will never be there. The commit comes after the parent's, and is durable after a Syncer's Sync.
	Apply(ctx context.Context, parent, chain, diff brig.Digest, tar io.Reader, below func(context.Context) error) (brig.Applied, error)
	// Drop deletes a chain. Conflict: a container or another chain stands on it.
	Drop(ctx context.Context, chain brig.Digest) error
	// Sweep removes all that live doesn't name: chains, root file systems, volumes, unfinished work, and stale mounts.
	Sweep(ctx context.Context, live brig.Live) error
	// Driver returns the driver's name ("overlay", "copy", "zfs") and what docker info shows of it, as pairs.
	Driver() (name string, status [][2]string)
}

// Trees turns root file systems into layers, and shows what layers have changed. RootFS mounts and removes the root file systems.
type Trees interface {
	// PrepareTree makes the root file system id as RootFS.Prepare does, for somebody who doesn't miss it after a crash.
	PrepareTree(ctx context.Context, id brig.RID, parent brig.Digest) error
	// CommitTree makes what a root file system has become a chain of that name, a digest of any kind, on top of its parent, in time that doesn't
	// depend on its size; the root file system is gone then, and after an error it may be. size is in bytes, of the regular files that came. If
	// nothing has changed, made is false and there is no chain. The chain is durable after a Syncer's Sync.
	// Conflict: there is a chain of that name. NotFound: no such root file system.
	CommitTree(ctx context.Context, id brig.RID, chain brig.Digest) (size int64, made bool, err error)
	// ReadLayer calls use with what a chain's top layer changed, sorted by path, and a directory that has all that it added or modified. Each time it
	// is the same. NotFound: no such chain.
	ReadLayer(ctx context.Context, chain brig.Digest, use func(dir string, changes []brig.Change) error) error
}

// Leftovers finds what nobody needs and what could not be deleted at once.
type Leftovers interface {
	// Unused lists the chains that neither live, nor a root file system, nor a chain that is needed stands on; each before its parent. It asks memory alone.
	Unused(live []brig.Digest) []brig.StoredChain
	// Reap tries again to delete what could not be deleted when it was removed; left counts what still can't.
	Reap(ctx context.Context) (left int, err error)
}

// Syncer makes durable.
type Syncer interface {
	// Sync makes all layers durable that have been applied, and what lies in the directories also.
	Sync(ctx context.Context, also ...string) error
}

// VolumeData keeps the contents of volumes. UnmountVolume and RemoveVolume are idempotent.
type VolumeData interface {
	// MakeVolume makes an empty volume; size is its quota in bytes, 0 for none (NotImplemented where it can't be held).
	MakeVolume(ctx context.Context, id brig.RID, size int64) (path string, err error)
	// MakeMountPoint makes a volume that has no data of its own: MountVolume says what it shows.
	MakeMountPoint(ctx context.Context, id brig.RID) (path string, err error)
	// MountVolume mounts m on such a volume, unless something is mounted there already. An open directory is NotImplemented where jailers mount it
	// (brig.JailMount.Sub).
	MountVolume(ctx context.Context, id brig.RID, m brig.VolumeMount) error
	UnmountVolume(ctx context.Context, id brig.RID) error
	// RemoveVolume unmounts a volume and deletes its own data, never what was mounted on it.
	RemoveVolume(ctx context.Context, id brig.RID) error
}

// Jails makes and unmakes jails. Destroy is idempotent.
type Jails interface {
	// Create writes the bundle and starts the shim, which listens on its socket and holds the streams; nothing of the container
	// runs yet. Warnings name what this host can't give and what was reduced.
	Create(ctx context.Context, j *brig.Jail) (h *brig.Handle, warnings []string, err error)
	// Adopt looks at a handle from a record: running is true if the shim and the main process are there.
	// exit is the exit file's content if there is one, else nil.
	Adopt(ctx context.Context, h *brig.Handle) (running bool, exit *brig.Exit, err error)
	// Destroy kills what is left, removes the jail, its cgroup and its run directory.
	Destroy(ctx context.Context, h *brig.Handle) error
	// Sweep removes jails, cgroups, shims and run directories of this instance that live doesn't name.
	Sweep(ctx context.Context, live []*brig.Handle) error
	// Pids returns the host PIDs of all processes in the jail.
	Pids(ctx context.Context, h *brig.Handle) ([]int, error)
}

// Processes runs what is in a jail. exec is "" for the main process.
type Processes interface {
	// Start runs the main process that Create prepared and sets h.InitPID. An error says "executable file not found" or
	// "permission denied" where it is so: clients look for these words.
	Start(ctx context.Context, h *brig.Handle) error
	// Exec runs a further process; io.Attached is called before it starts, and Exec returns when it runs.
	// done gives its exit once, after all its output has been written to io.
	Exec(ctx context.Context, h *brig.Handle, j *brig.Jail, exec brig.ID, spec brig.ExecSpec, io brig.IO) (pid int, done <-chan brig.Exit, err error)
	// Attach copies between io and the main process's streams until they end, ctx ends, or the user detaches (ErrDetached).
	// It may be called between Create and Start.
	Attach(ctx context.Context, h *brig.Handle, io brig.IO) error
	// Signal sends a signal to the main process, or to an exec's.
	Signal(ctx context.Context, h *brig.Handle, exec brig.ID, sig int) error
	// Wait returns when the main process has ended and its output has been written to the log. It works on an adopted handle.
	Wait(ctx context.Context, h *brig.Handle) (brig.Exit, error)
}

// Host knows what jails on this host can't have.
type Host interface {
	// Warnings names what of a spec can't be given or will be reduced, in docker's words where it has some. It asks nobody else.
	Warnings(spec *brig.Spec) []string
	// Expect says that a process will soon join a jail, so that what takes a while can begin. It returns at once.
	Expect()
}

// Terminals changes window sizes.
type Terminals interface {
	Resize(ctx context.Context, h *brig.Handle, exec brig.ID, rows, cols uint) error
}

// Gauge looks at what jails use.
type Gauge interface {
	// Stats takes a sample of a jail that runs, frozen or not. It starts no process. NotFound: the jail has ended.
	Stats(ctx context.Context, h *brig.Handle) (brig.Sample, error)
}

// Freezer pauses jails. Both are idempotent.
type Freezer interface {
	Pause(ctx context.Context, h *brig.Handle) error
	Resume(ctx context.Context, h *brig.Handle) error
}

// Limiter changes limits while a container runs.
type Limiter interface {
	// Limit holds the jail to l; what l doesn't name may stay as it was, but for pids.
	Limit(ctx context.Context, h *brig.Handle, l *brig.Limits) error
}

// Records is the database. Put and Delete are each one transaction, durable when they return. Delete is idempotent.
type Records interface {
	Put(ctx context.Context, puts []brig.Record, deletes []brig.Record) error
	Get(ctx context.Context, kind, key string) ([]byte, error)    // NotFound
	List(ctx context.Context, kind string) ([]brig.Record, error) // sorted by key
}

// Registry talks to registries.
type Registry interface {
	// Resolve finds what ref (repository:tag or repository@digest, fully qualified) means for the platform, its bytes verified.
	// platform "" is the host's default. NotFound, Unauthorized and Unavailable carry Docker's words.
	Resolve(ctx context.Context, ref, platform string, auth brig.Auth) (*brig.Remote, error)
	// Layer opens one layer's compressed bytes from offset on; the caller verifies.
	Layer(ctx context.Context, r *brig.Remote, d brig.Descriptor, offset int64) (io.ReadCloser, error)
	// Span opens the bytes of a layer from one offset to another, which is excluded; they end at end. A registry that doesn't do ranges
	// gives all of the layer if from is 0; else that is NotImplemented.
	Span(ctx context.Context, r *brig.Remote, d brig.Descriptor, from, to int64) (body io.ReadCloser, end int64, err error)
	// Tags lists a repository's tags.
	Tags(ctx context.Context, repository string, auth brig.Auth) ([]string, error)
}

// Pusher writes to registries. repository is fully qualified; a tag in it is not looked at.
type Pusher interface {
	HasBlob(ctx context.Context, repository string, d brig.Digest, auth brig.Auth) (bool, error)
	// PutBlob brings a blob into a repository, if it can from another one of the same registry, from ("": none); then open is not called.
	PutBlob(ctx context.Context, repository, from string, d brig.Descriptor, open func() (io.ReadCloser, error), auth brig.Auth) (mounted bool, err error)
	// PutManifest stores exact bytes as ref, repository:tag.
	PutManifest(ctx context.Context, ref, mediaType string, manifest []byte, auth brig.Auth) error
}

// Downloader fetches plain files.
type Downloader interface {
	// Download opens what an http or https URL gives; the caller closes it. size is in bytes, -1 if the server doesn't say.
	Download(ctx context.Context, url string) (body io.ReadCloser, size int64, err error)
}

// Converter makes the App Container side of images.
type Converter interface {
	// ImageConfig reads the exact bytes of a Docker or OCI image config.
	ImageConfig(config []byte) (*brig.Document, error)
	// ACIManifest projects a config to an appc image manifest, as docker2aci maps it. ref is the reference it came by, "" if none.
	ACIManifest(config []byte, ref string, manifest brig.Digest) (name string, manifestJSON []byte, err error)
	// WriteACI writes a flat ACI, uncompressed: manifest and the tree under root, in a fixed order so that the same tree always gives the same bytes.
	WriteACI(ctx context.Context, w io.Writer, manifest []byte, root string) error
}

// Archives reads and writes what docker load and save speak, and decompresses layers.
type Archives interface {
	// ReadArchive reads a docker-archive or OCI layout tar to its end, spooling to files in the directory spool where it must. The images'
	// layers can be opened until close, which removes the spooled files, is called; close is nil only if err isn't. Nothing is verified but the form.
	// Of an image for several platforms it takes the first of want that there is, else any.
	ReadArchive(ctx context.Context, r io.Reader, spool string, want ...brig.Platform) (images []brig.ArchiveImage, close func() error, err error)
	// WriteArchive writes images as docker save does since 25: an OCI layout with a manifest.json beside it.
	WriteArchive(ctx context.Context, w io.Writer, images []brig.ArchiveImage) error
	// Decompress returns the uncompressed bytes of a layer; the magic bytes decide, not the media type. Closing it does not close r.
	Decompress(ctx context.Context, r io.Reader, mediaType string) (io.ReadCloser, error)
}

// ACIs reads App Container Images, and writes those of single layers.
type ACIs interface {
	// ReadACI reads an ACI to its end, compressed or not, spooling its layer to the directory spool. Invalid: it is none.
	ReadACI(ctx context.Context, r io.Reader, spool string) (*brig.ACIArchive, error)
	// ACIInfo reads an image manifest.
	ACIInfo(manifest []byte) (*brig.ACIInfo, error)
	// ImageFromACI makes a Docker image of an ACI that stands on lower, the layers of its dependencies from the lowest up, and names it.
	// warnings say what Docker has no room for. close ends the use of the image's top layer; it is nil only if err isn't.
	ImageFromACI(ctx context.Context, a *brig.ACIArchive, lower []brig.ArchiveLayer, spool string) (img brig.ArchiveImage, warnings []string, close func() error, err error)
	// WriteLayers writes one ACI for each layer of img, from the lowest up, each to what create gives for its name. manifest is that
	// of the flat ACI; the topmost has its app, and depends on all others.
	WriteLayers(ctx context.Context, img brig.ArchiveImage, manifest []byte, create func(name string) (io.WriteCloser, error)) error
}

// ACIMaker makes ACIs of layers that were built on other ACIs.
type ACIMaker interface {
	// ChildManifest completes and checks the manifest of an image that was built on parent; whitelist are the paths to be seen, nil for all.
	ChildManifest(doc []byte, parent brig.ACIDependency, made time.Time, whitelist []string) ([]byte, error)
	// WriteIncremental writes the ACI, uncompressed, that brings a layer to the dependencies that manifest names.
	WriteIncremental(ctx context.Context, w io.Writer, manifest []byte, l brig.ArchiveLayer) error
	// ProjectACI makes the Docker config of an image whose ACI has the ID id, and says what Docker calls it. by is what the history says of the top layer.
	ProjectACI(manifest []byte, id, by string, diffs []brig.Digest) (config []byte, refs, warnings []string, err error)
}

// Runner runs the processes of builds; Containers is one.
type Runner interface {
	RunStep(ctx context.Context, r brig.StepRun) (code int, err error)
}

// ACIWeb finds and downloads ACIs.
type ACIWeb interface {
	// Locate finds where an ACI and its signature may be, the likeliest first. NotFound, with all that was tried: nowhere.
	Locate(ctx context.Context, n brig.ACIName, insecure bool) ([]brig.ACIEndpoint, error)
	// Open begins a download, which fails if it has more than limit bytes. size is -1 if the server doesn't say. The caller closes body.
	Open(ctx context.Context, url string, insecure bool, limit int64) (body io.ReadCloser, size int64, err error)
}

// Networks gives jails their network. Detach is idempotent.
type Networks interface {
	// Attach makes the namespace and joins the networks that c's Endpoints name. owner is the handle of the container to share with
	// for container:REF, else nil.
	Attach(ctx context.Context, c *brig.Container, owner *brig.Handle) (brig.Attachment, error)
	// Detach takes c out of all networks, unpublishes its ports and removes its namespace.
	Detach(ctx context.Context, id brig.ID) error
	// Restore tells the networks at start-up which containers may live, with their addresses and ports; everything else is swept.
	// Those that turn out to have ended are detached afterwards.
	Restore(ctx context.Context, live []*brig.Container) error
	// Lookup finds a network by name, ID or unique ID prefix. NotFound.
	Lookup(ctx context.Context, ref string) (brig.Network, error)
	List(ctx context.Context) ([]brig.Network, error)
}

// Strays removes what of networks no container is attached to.
type Strays interface {
	// Sweep does so once more after Restore, when jails have been swept: what one of those was in may have had to stay until then.
	Sweep(ctx context.Context) error
}

// Memberships changes which networks there are, and who is in them while it runs.
type Memberships interface {
	// Create makes a network of w, whose ID, and subnets and bridge where they are open, it chooses.
	Create(ctx context.Context, w brig.Network) (brig.Network, error)
	// Remove removes a network that no running container is in. Forbidden: one is, or it is predefined.
	Remove(ctx context.Context, ref string) (brig.Network, error)
	// Connect puts a container that runs into one more network, Disconnect takes it out of one. Both return its endpoints by then; nil if
	// it is in none that anything had to be done for. They make no record.
	Connect(ctx context.Context, c *brig.Container, ref string, spec brig.EndpointSpec) (map[string]brig.Endpoint, error)
	Disconnect(ctx context.Context, c *brig.Container, ref string) (map[string]brig.Endpoint, error)
	// Rename tells of new names in c's Endpoints.
	Rename(ctx context.Context, c *brig.Container) error
}

// Identities tells the metadata service which pods run. What it can't tell just now it tells later: a pod runs without it too. A pod is
// published before its first process runs, and again when something of it has changed; it is withdrawn after its last process has ended.
type Identities interface {
	// Publish returns when the service answers the pod; an error says why it doesn't yet.
	Publish(ctx context.Context, p brig.PodIdentity) error
	// Withdraw is idempotent.
	Withdraw(ctx context.Context, uuid string) error
	// URL is the pod's AC_METADATA_URL where it reaches the host at gateway; "" if there is no service.
	URL(uuid string, gateway netip.Addr) string
	// Sweep withdraws all pods but live.
	Sweep(ctx context.Context, live []string) error
}
