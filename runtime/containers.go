package runtime

import (
	"cmp"
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// Kinds of records that Containers writes. A container's key is its ID, a name's is the name (its value the ID), a volume's its name.
const (
	kindContainer = "container"
	kindName      = "name"
	kindVolume    = "volume"
)

// Publisher takes events; it never blocks. Bus is one.
type Publisher interface{ Publish(brig.Event) }

// ImageSource finds the image of a new container.
type ImageSource interface {
	// With finds the image that ref means for platform ("": any) and keeps it from being removed while use runs.
	// NotFound if there is none.
	With(ctx context.Context, ref, platform string, use func(*brig.Image) error) error
}

// ContainersConfig is what NewContainers needs; every field but Identities, Documents, Driver, Platforms, Cgroup, Freed and Observer must be set.
type ContainersConfig struct {
	RootFS     RootFS
	VolumeData VolumeData
	Strays     Strays
	Jails      Jails
	Host       Host
	Processes  Processes
	Terminals  Terminals
	Freezer    Freezer
	Limiter    Limiter
	Gauge      Gauge
	Networks   Networks
	Members    Memberships
	Sandboxes  Sandboxes
	ACIs       ACISource
	Identities Identities     // nil: no container has metadata
	Documents  ImageDocuments // for Identities alone
	Records    Records
	Images     ImageSource
	Maker      ImageMaker      // for Commit alone
	Platforms  []brig.Platform // that this host runs; one with an image for another is warned of. None: no warnings
	Bus        Publisher
	Root       string // brigd's root directory; containers/ and run/ beneath it are ours
	Driver     string // name of the storage driver, for inspect
	Instance   string // names this brigd among others on the host
	Cgroup     string // parent of all jails, absolute in each hierarchy; "": /brig-<Instance>
	Log        *slog.Logger
	Observer   Observer
	KeepAll    bool   // Recover removes nothing that no record names: some records can't be read
	Freed      func() // called when a container or a volume has been removed: what it stood on may be unused now. It must not wait
}

// Containers makes, runs and removes containers, with their volumes and execs. All of them are held in memory: showing them
// neither forks nor reads the disk. Containers outlive it: Close leaves them running, and Recover takes them over again.
//
// Lock order: a container's lock, then volumes, then mu. mu is never held over I/O.
type Containers struct {
	cfg   ContainersConfig
	log   *slog.Logger
	base  context.Context // ends with Close
	end   context.CancelFunc
	whole chan struct{}  // closed when Recover has taken over and swept
	work  sync.WaitGroup // watchers, restarts and exec watchers

	// volumes is held by whoever makes or removes volumes, or commits a container that uses one.
	volumes lock
	hosts   sync.Mutex                  // held while the hosts file of a container that runs is changed
	shown   map[string]map[brig.ID]bool // mounted volumes by name, and whom they are mounted for; guarded by volumes

	mu     sync.Mutex // guards what follows, and the fields of container that say so
	byID   map[brig.ID]*container
	byName map[string]brig.ID // also the names of creates under way, and of pods
	pods   map[string]*pod    // by UUID
	vols   map[string]*brig.Volume
	execs  map[brig.ID]*execution
	making map[brig.RID]bool // datasets of creates under way: no record names them yet; true for a volume
}

// A lock is a mutex that can be waited for with a context. Full means held.
type lock chan struct{}

func newLock() lock { return make(lock, 1) }

// acquire takes the lock or returns ctx's error.
func (l lock) acquire(ctx context.Context) error {
	select {
	case l <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l lock) release() { <-l }

// container is one container in memory.
type container struct {
	id   brig.ID
	lock lock // held while the container changes

	// Owned by the holder of lock.
	users   int                // of the mounted root file system: the run, and accesses to files
	root    string             // where it is mounted, while users > 0
	backoff time.Duration      // before the next automatic restart
	probing context.CancelFunc // ends the prober of the run's health; nil without one
	guest   *guest             // what the engine has put into the tree of a build's step; nil: nothing

	// Guarded by Containers.mu.
	rec      *brig.Container // replaced, never changed in place
	began    time.Time       // of the run, by a clock that nobody sets; zero for an adopted one
	jail     *brig.Jail      // of the run; nil for an adopted one until an exec needs it
	stopped  bool            // by a user: policies don't restart it
	removing bool            // Remove works on it
	gone     bool            // removed
	idle     chan struct{}   // closed when the container is no longer active; nil if it never was
	halt     chan struct{}   // closed to end the wait for an automatic restart; nil without one
	handling *handling       // event handler that runs; nil: none
	waiters  []*waiter
	pending  []*pendingAttach
}

// containerRecord is a container's stored form.
type containerRecord struct {
	brig.Container
	Stopped bool // by a user
}

// NewContainers loads the records. It changes nothing: Recover does.
func NewContainers(ctx context.Context, cfg ContainersConfig) (*Containers, error) {
	cfg.Cgroup = cmp.Or(cfg.Cgroup, "/brig-"+cfg.Instance)
	if cfg.Freed == nil {
		cfg.Freed = func() {}
	}
	if cfg.Observer == nil {
		cfg.Observer = unobserved{}
	}
	base, end := context.WithCancel(context.Background())
	c := &Containers{
		cfg: cfg, log: cfg.Log, base: base, end: end, whole: make(chan struct{}), volumes: newLock(), shown: map[string]map[brig.ID]bool{},
		byID: map[brig.ID]*container{}, byName: map[string]brig.ID{}, pods: map[string]*pod{}, vols: map[string]*brig.Volume{},
		execs: map[brig.ID]*execution{}, making: map[brig.RID]bool{},
	}
	if err := c.load(ctx); err != nil {
		end()
		return nil, err
	}
	return c, nil
}

func (c *Containers) load(ctx context.Context) error {
	recs, err := c.cfg.Records.List(ctx, kindContainer)
	if err != nil {
		return errs.Wrap(err, "load containers")
	}
	for _, r := range recs {
		var v containerRecord
		if err := json.Unmarshal(r.Value, &v); err != nil {
			return errs.Wrap(err, "record of container %s", r.Key)
		}
		c.byID[v.ID] = &container{id: v.ID, lock: newLock(), rec: &v.Container, stopped: v.Stopped}
		c.byName[v.Name] = v.ID
	}
	if err := c.loadPods(ctx); err != nil {
		return err
	}
	if recs, err = c.cfg.Records.List(ctx, kindVolume); err != nil {
		return errs.Wrap(err, "load volumes")
	}
	for _, r := range recs {
		var v brig.Volume
		if err := json.Unmarshal(r.Value, &v); err != nil {
			return errs.Wrap(err, "record of volume %s", r.Key)
		}
		c.vols[v.Name] = &v
	}
	return nil
}

// Close ends all that Containers does and waits for it. Containers go on running.
func (c *Containers) Close() error {
	c.end()
	c.work.Wait()
	return nil
}

// find looks a container up by ID, name, or unique prefix of an ID, in this order, as Docker does.
func (c *Containers) find(ref string) (*container, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.findLocked(ref)
}

func (c *Containers) findLocked(ref string) (*container, error) {
	if ref == "" {
		return nil, errs.New(errs.Invalid, "invalid name or ID supplied: %q", "")
	}
	if ct := c.byID[brig.ID(ref)]; ct != nil {
		return ct, nil
	}
	if ct := c.byID[c.byName[strings.TrimPrefix(ref, "/")]]; ct != nil {
		return ct, nil
	}
	if ct, _ := c.linkedLocked(ref); ct != nil {
		return ct, nil
	}
	var found *container
	for id, ct := range c.byID {
		if !strings.HasPrefix(string(id), ref) {
			continue
		}
		if found != nil {
			return nil, errs.New(errs.Invalid, "multiple IDs found with provided prefix: %s", ref)
		}
		found = ct
	}
	if found == nil {
		return nil, errs.New(errs.NotFound, "No such container: %s", ref)
	}
	return found, nil
}

// hold finds a container and takes its lock; the caller releases it.
func (c *Containers) hold(ctx context.Context, ref string) (*container, error) {
	ct, err := c.find(ref)
	if err != nil {
		return nil, err
	}
	if err := ct.lock.acquire(ctx); err != nil {
		return nil, err
	}
	c.mu.Lock()
	gone := ct.gone
	c.mu.Unlock()
	if gone {
		ct.lock.release()
		return nil, errs.New(errs.NotFound, "No such container: %s", ref)
	}
	return ct, nil
}

// record returns what is known of ct now; it must not be changed.
func (c *Containers) record(ct *container) *brig.Container {
	c.mu.Lock()
	defer c.mu.Unlock()
	return ct.rec
}

// Get returns a copy of the container that ref means.
func (c *Containers) Get(_ context.Context, ref string) (*brig.Container, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ct, err := c.findLocked(ref)
	if err != nil {
		return nil, err
	}
	d := ct.rec.Clone()
	d.ExecIDs = c.runningExecs(ct.id)
	return d, nil
}

// List returns copies of all containers, newest first.
func (c *Containers) List(context.Context) ([]*brig.Container, error) {
	c.mu.Lock()
	out := make([]*brig.Container, 0, len(c.byID))
	for _, ct := range c.byID {
		out = append(out, ct.rec.Clone())
	}
	c.mu.Unlock()
	slices.SortFunc(out, func(a, b *brig.Container) int {
		return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(a.ID, b.ID))
	})
	return out, nil
}

// Count counts containers by state, as docker info shows them. Images is left to others.
func (c *Containers) Count() brig.Info {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := brig.Info{Containers: len(c.byID), Volumes: len(c.vols)}
	for _, ct := range c.byID {
		switch ct.rec.State {
		case brig.Running, brig.Restarting:
			n.Running++
		case brig.Paused:
			n.Paused++
		default:
			n.Stopped++
		}
	}
	return n
}

// Live names what containers and volumes stand on, creates under way included.
func (c *Containers) Live() brig.Live {
	c.mu.Lock()
	defer c.mu.Unlock()
	var l brig.Live
	chains := map[brig.Digest]bool{}
	for _, ct := range c.byID {
		if ct.rec.Tree == "" { // else it is the build's to name
			l.Containers = append(l.Containers, ct.rec.RootFS)
		}
		if ct.rec.Chain != "" {
			chains[ct.rec.Chain] = true
		}
	}
	for _, v := range c.vols {
		l.Volumes = append(l.Volumes, v.Dataset)
	}
	for rid, volume := range c.making {
		if volume {
			l.Volumes = append(l.Volumes, rid)
		} else {
			l.Containers = append(l.Containers, rid)
		}
	}
	l.Chains = slices.Sorted(maps.Keys(chains))
	slices.Sort(l.Containers)
	slices.Sort(l.Volumes)
	return l
}

// dir is where a container's own files are.
func (c *Containers) dir(id brig.ID) string {
	return filepath.Join(c.cfg.Root, "containers", string(id))
}

// runDir is a run's directory, jailer's own.
func (c *Containers) runDir(id brig.RID) string { return filepath.Join(c.cfg.Root, "run", string(id)) }

// encode makes the record of next.
func (c *Containers) encode(ct *container, next *brig.Container) (brig.Record, error) {
	c.mu.Lock()
	v := containerRecord{Container: *next, Stopped: ct.stopped}
	c.mu.Unlock()
	b, err := json.Marshal(v)
	return brig.Record{Kind: kindContainer, Key: string(next.ID), Value: b}, errs.Wrap(err, "encode container %s", next.ID.Short())
}

// save writes next's record. The caller holds ct's lock.
func (c *Containers) save(ctx context.Context, ct *container, next *brig.Container) error {
	r, err := c.encode(ct, next)
	if err != nil {
		return err
	}
	return errs.Wrap(c.put(ctx, next, []brig.Record{r}, nil), "save container %s", next.ID.Short())
}

// show makes next what everybody sees. The caller holds ct's lock.
func (c *Containers) show(ct *container, next *brig.Container) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ct.rec = next
}

// commit saves next, then shows it. The caller holds ct's lock.
func (c *Containers) commit(ctx context.Context, ct *container, next *brig.Container) error {
	if err := c.save(ctx, ct, next); err != nil {
		return err
	}
	c.show(ct, next)
	return nil
}

// event publishes one about a container; pairs are further attributes, key and value in turn.
func (c *Containers) event(d *brig.Container, action string, pairs ...string) {
	at := make(map[string]string, len(d.Spec.Labels)+2+len(pairs)/2)
	maps.Copy(at, d.Spec.Labels)
	at["image"], at["name"] = d.ImageRef, d.Name
	for i := 0; i+1 < len(pairs); i += 2 {
		at[pairs[i]] = pairs[i+1]
	}
	c.cfg.Bus.Publish(brig.Event{Type: "container", Action: action, ActorID: string(d.ID), Attributes: at, Time: time.Now()})
}

// networkEvents publishes action for each network that d is in.
func (c *Containers) networkEvents(d *brig.Container, action string) {
	for _, name := range slices.Sorted(maps.Keys(d.Endpoints)) {
		ep := d.Endpoints[name]
		if ep.NetworkID == "" {
			continue
		}
		typ := map[string]string{"host": "host", "none": "null"}[name]
		c.cfg.Bus.Publish(brig.Event{Type: "network", Action: action, ActorID: string(ep.NetworkID), Time: time.Now(),
			Attributes: map[string]string{"container": string(d.ID), "name": name, "type": cmp.Or(typ, "bridge")}})
	}
}

// leftEvents publishes that d has left its networks, and its volumes if it had them mounted, in Docker's order.
func (c *Containers) leftEvents(d *brig.Container, mounted bool) {
	c.networkEvents(d, "disconnect")
	if mounted {
		c.volumeEvents(d, "unmount")
	}
}

// volumeEvents publishes "mount" or "unmount" for each volume of d.
func (c *Containers) volumeEvents(d *brig.Container, action string) {
	for _, m := range d.Mounts {
		if m.Type != brig.MountVolume {
			continue
		}
		at := map[string]string{"container": string(d.ID), "driver": m.Driver}
		if action == "mount" {
			at["destination"], at["propagation"], at["read/write"] = m.Target, m.Propagation, map[bool]string{true: "true", false: "false"}[m.RW]
		}
		c.cfg.Bus.Publish(brig.Event{Type: "volume", Action: action, ActorID: m.Name, Attributes: at, Time: time.Now()})
	}
}
