package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// world is the state behind the fakes: what is on disk and in the kernel, and so outlives a brigd. Root file systems and volumes are
// real directories, processes are goroutines.
type world struct {
	onRestore func() // called before networks are restored; nil: nothing
	onSweep   func() // called before jails are swept
	t         *testing.T
	root      string

	mu      sync.Mutex
	recs    map[string][]byte // kind/key
	layers  map[brig.RID]brig.Digest
	mounted map[brig.RID]bool
	volData map[brig.RID]bool
	volSeen map[brig.RID]bool // mounted volumes
	jails   map[string]*proc  // by JailID
	nets    map[brig.ID]bool
	boxes   map[brig.ID]bool            // sandboxes of pods
	told    map[string]brig.PodIdentity // what the metadata service knows, by UUID; nil: there is none
	events  []brig.Event
	started []string // commands, in order
	pid     int
	image   brig.Image
	setup   func(rootfs string) // fills a new root file system
	stuck   error               // RootFS.Remove fails with it
	changed []brig.Change       // what Diff says
	maker   makerSeam
	sick    int    // the exit code of "probe"; negative: it hangs
	symptom string // what it says
	probes  int    // how many there have been
	hung    map[brig.ID]chan brig.Exit
}

// proc is a jail and its main process.
type proc struct {
	jail    *brig.Jail
	started bool
	frozen  bool
	limits  brig.Limits
	exit    *brig.Exit
	done    chan struct{}
	ios     []brig.IO
	signals []int
}

var errCrashed = errors.New("brigd is dead")

// brigd is one life of the daemon: after the fatal step none of its calls has an effect any more.
type brigd struct {
	*world
	*Containers
	mu    sync.Mutex
	steps int
	fatal int // 0: never
	dead  bool
	died  chan struct{} // closed at the fatal step
	names []string
	joins map[brig.ID]bool // containers that this brigd's networks know of; guarded by world.mu
}

func newWorld(t *testing.T) *world {
	return &world{
		t: t, root: t.TempDir(), recs: map[string][]byte{}, layers: map[brig.RID]brig.Digest{}, mounted: map[brig.RID]bool{},
		volData: map[brig.RID]bool{}, volSeen: map[brig.RID]bool{}, jails: map[string]*proc{}, nets: map[brig.ID]bool{}, boxes: map[brig.ID]bool{}, hung: map[brig.ID]chan brig.Exit{}, pid: 1000,
		image: brig.Image{ID: brig.DigestOf([]byte("image")), Platform: brig.Platform{OS: "linux", Architecture: "amd64"},
			Config: brig.ImageConfig{Env: []string{"PATH=/bin"}, Cmd: []string{"sleep"}}},
	}
}

// boot starts a brigd over the world and recovers.
func (w *world) boot(fatal int) *brigd {
	w.t.Helper()
	b := &brigd{world: w, died: make(chan struct{}), joins: map[brig.ID]bool{}}
	c, err := NewContainers(context.Background(), ContainersConfig{
		RootFS: (*storeSeam)(b), VolumeData: (*storeSeam)(b), Strays: (*netSeam)(b), Jails: (*jailSeam)(b), Host: (*jailSeam)(b), Processes: (*procSeam)(b), Terminals: (*freezeSeam)(b), Freezer: (*freezeSeam)(b), Limiter: (*freezeSeam)(b), Gauge: (*freezeSeam)(b), Networks: (*netSeam)(b), Members: (*memberSeam)(b), Sandboxes: (*podSeam)(b), ACIs: (*podSeam)(b), Records: (*recSeam)(b),
		Images: (*busSeam)(b), Maker: w.maker, Bus: (*busSeam)(b), Root: w.root, Driver: "fake", Instance: "test", Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	if w.told != nil {
		c.cfg.Identities, c.cfg.Documents = (*identSeam)(b), (*identSeam)(b)
	}
	b.Containers = c
	if err := c.Recover(context.Background()); err != nil {
		w.t.Fatal(err)
	}
	b.sweepStore(c.Live())
	b.steps, b.names, b.fatal = 0, nil, fatal
	w.t.Cleanup(func() { c.Close() })
	return b
}

// step counts one change; it fails from the fatal one on.
func (b *brigd) step(what string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.steps++
	b.names = append(b.names, what)
	if b.fatal > 0 && b.steps >= b.fatal {
		if !b.dead {
			close(b.died)
		}
		b.dead = true
	}
	if b.dead {
		return errCrashed
	}
	return nil
}

func (w *world) rootfs(id brig.RID) string { return filepath.Join(w.root, "store", string(id)) }

func (b *brigd) sweepStore(l brig.Live) {
	b.world.mu.Lock()
	defer b.world.mu.Unlock()
	for id := range b.layers {
		if !slices.Contains(l.Containers, id) {
			delete(b.layers, id)
			delete(b.mounted, id)
			os.RemoveAll(b.rootfs(id))
		}
	}
	for id := range b.volData {
		if !slices.Contains(l.Volumes, id) {
			delete(b.volData, id)
			delete(b.volSeen, id)
			os.RemoveAll(b.rootfs(id))
		}
	}
}

type busSeam brigd

func (b *busSeam) With(_ context.Context, ref, _ string, use func(*brig.Image) error) error {
	if ref != "img" && ref != string(b.image.ID) {
		return errs.New(errs.NotFound, "No such image: %s", ref)
	}
	img := b.image
	return use(&img)
}

type storeSeam brigd

func (b *storeSeam) Prepare(_ context.Context, id brig.RID, parent brig.Digest, _ int64) error {
	if err := (*brigd)(b).step("prepare"); err != nil {
		return err
	}
	b.world.mu.Lock()
	defer b.world.mu.Unlock()
	b.layers[id] = parent
	if err := os.MkdirAll(b.rootfs(id), 0o755); err != nil {
		return err
	}
	if b.setup != nil {
		b.setup(b.rootfs(id))
	}
	return nil
}

func (b *storeSeam) Mount(_ context.Context, id brig.RID) (string, error) {
	if err := (*brigd)(b).step("mount"); err != nil {
		return "", err
	}
	b.world.mu.Lock()
	defer b.world.mu.Unlock()
	if _, ok := b.layers[id]; !ok {
		return "", errs.New(errs.NotFound, "no root file system %s", id)
	}
	b.mounted[id] = true
	return b.rootfs(id), nil
}

func (b *storeSeam) Unmount(_ context.Context, id brig.RID) error {
	if err := (*brigd)(b).step("unmount"); err != nil {
		return err
	}
	b.world.mu.Lock()
	defer b.world.mu.Unlock()
	delete(b.mounted, id)
	return nil
}

func (b *storeSeam) Diff(context.Context, brig.RID) ([]brig.Change, error) {
	return slices.Clone(b.changed), nil
}

func (b *storeSeam) Remove(_ context.Context, id brig.RID) error {
	if err := (*brigd)(b).step("remove"); err != nil {
		return err
	}
	b.world.mu.Lock()
	defer b.world.mu.Unlock()
	if b.stuck != nil {
		return b.stuck
	}
	delete(b.layers, id)
	delete(b.mounted, id)
	return os.RemoveAll(b.rootfs(id))
}

func (b *storeSeam) MakeVolume(_ context.Context, id brig.RID, _ int64) (string, error) {
	if err := (*brigd)(b).step("make volume"); err != nil {
		return "", err
	}
	b.world.mu.Lock()
	defer b.world.mu.Unlock()
	b.volData[id] = true
	return b.rootfs(id), os.MkdirAll(b.rootfs(id), 0o755)
}

func (b *storeSeam) MakeMountPoint(ctx context.Context, id brig.RID) (string, error) {
	return b.MakeVolume(ctx, id, 0)
}

func (b *storeSeam) MountVolume(_ context.Context, id brig.RID, m brig.VolumeMount) error {
	if m.Dir != nil {
		m.Device = m.Dir.Name()
	}
	return b.showVolume(id, m.Device)
}
func (b *storeSeam) UnmountVolume(_ context.Context, id brig.RID) error { return b.showVolume(id, "") }

func (b *storeSeam) showVolume(id brig.RID, device string) error {
	if err := (*brigd)(b).step("mount volume " + device); err != nil {
		return err
	}
	if device == "broken" {
		return errs.New(errs.Invalid, "failed to mount local volume: out of order")
	}
	b.world.mu.Lock()
	defer b.world.mu.Unlock()
	if b.volSeen[id] = true; device == "" {
		delete(b.volSeen, id)
	}
	return nil
}

func (b *storeSeam) RemoveVolume(_ context.Context, id brig.RID) error {
	if err := (*brigd)(b).step("remove volume"); err != nil {
		return err
	}
	b.world.mu.Lock()
	defer b.world.mu.Unlock()
	delete(b.volData, id)
	delete(b.volSeen, id)
	return os.RemoveAll(b.rootfs(id))
}

type freezeSeam brigd

func (b *freezeSeam) Resize(context.Context, *brig.Handle, brig.ID, uint, uint) error { return nil }

func (b *freezeSeam) Pause(_ context.Context, h *brig.Handle) error  { return b.freeze(h, true) }
func (b *freezeSeam) Resume(_ context.Context, h *brig.Handle) error { return b.freeze(h, false) }

func (b *freezeSeam) freeze(h *brig.Handle, on bool) error {
	if err := (*brigd)(b).step("freeze"); err != nil {
		return err
	}
	b.world.mu.Lock()
	defer b.world.mu.Unlock()
	p := b.jails[h.JailID]
	if p == nil {
		return errors.New("no such jail")
	}
	p.frozen = on
	return nil
}

func (b *freezeSeam) Limit(_ context.Context, h *brig.Handle, l *brig.Limits) error {
	if err := (*brigd)(b).step("limit"); err != nil {
		return err
	}
	b.world.mu.Lock()
	defer b.world.mu.Unlock()
	b.jails[h.JailID].limits = *l
	if l.Memory == 13 {
		return errors.New("device or resource busy")
	}
	return nil
}

func (b *busSeam) Publish(e brig.Event) {
	b.world.mu.Lock()
	defer b.world.mu.Unlock()
	b.events = append(b.events, e)
}

type recSeam brigd

func (b *recSeam) Put(_ context.Context, puts, deletes []brig.Record) error {
	if err := (*brigd)(b).step("put"); err != nil {
		return err
	}
	b.world.mu.Lock()
	defer b.world.mu.Unlock()
	for _, r := range puts {
		if _, ok := b.recs[r.Kind+"/"+r.Key]; ok && r.New {
			return errs.New(errs.Conflict, "record %s/%s is there", r.Kind, r.Key)
		}
	}
	for _, r := range puts {
		b.recs[r.Kind+"/"+r.Key] = r.Value
	}
	for _, r := range deletes {
		delete(b.recs, r.Kind+"/"+r.Key)
	}
	return nil
}

func (b *recSeam) Get(context.Context, string, string) ([]byte, error) {
	return nil, errors.New("unused")
}

func (b *recSeam) List(_ context.Context, kind string) ([]brig.Record, error) {
	b.world.mu.Lock()
	defer b.world.mu.Unlock()
	var out []brig.Record
	for _, k := range slices.Sorted(maps.Keys(b.recs)) {
		if key, ok := strings.CutPrefix(k, kind+"/"); ok {
			out = append(out, brig.Record{Kind: kind, Key: key, Value: b.recs[k]})
		}
	}
	return out, nil
}

type netSeam brigd

func (b *netSeam) Attach(_ context.Context, c *brig.Container, _ *brig.Handle) (brig.Attachment, error) {
	if err := (*brigd)(b).step("attach"); err != nil {
		return brig.Attachment{}, err
	}
	b.world.mu.Lock()
	defer b.world.mu.Unlock()
	b.nets[c.ID], b.joins[c.ID] = true, true
	return brig.Attachment{Endpoints: map[string]brig.Endpoint{"bridge": {NetworkID: "net1",
		Addr4: netip.MustParsePrefix("172.30.0.2/16"), Gateway4: netip.MustParseAddr("172.30.0.1")}}}, nil
}

func (b *netSeam) Detach(_ context.Context, id brig.ID) error {
	if err := (*brigd)(b).step("detach"); err != nil {
		return err
	}
	b.world.mu.Lock()
	defer b.world.mu.Unlock()
	if b.joins[id] { // like the real one: what it doesn't know of it doesn't find on the host
		delete(b.nets, id)
		delete(b.joins, id)
	}
	return nil
}

func (b *netSeam) Restore(_ context.Context, live []*brig.Container) error {
	if b.onRestore != nil {
		b.onRestore()
	}
	b.world.mu.Lock()
	defer b.world.mu.Unlock()
	maps.DeleteFunc(b.nets, func(id brig.ID, _ bool) bool {
		return !slices.ContainsFunc(live, func(c *brig.Container) bool { return c.ID == id })
	})
	for _, c := range live {
		b.joins[c.ID] = true
	}
	return nil
}

// Sweep has nothing left to do: what Restore doesn't name is gone.
func (b *netSeam) Sweep(context.Context) error { return nil }

func (b *netSeam) Lookup(_ context.Context, ref string) (brig.Network, error) {
	subnets := map[string][]brig.Subnet{"bridge": {{Prefix: netip.MustParsePrefix("172.30.0.0/16"), Gateway: netip.MustParseAddr("172.30.0.1")}}}
	return brig.Network{ID: brig.ID("id-" + ref), Name: ref, Subnets: subnets[ref], Driver: map[string]string{"host": "host", "none": "null"}[ref]}, nil
}
func (b *netSeam) List(context.Context) ([]brig.Network, error) { return nil, nil }

// memberSeam has every network that is asked for; who is in which of them, the containers' records say.
type memberSeam brigd

func (b *memberSeam) Create(_ context.Context, w brig.Network) (brig.Network, error) {
	w.ID = brig.ID("id-" + w.Name)
	return w, (*brigd)(b).step("net create")
}

func (b *memberSeam) Remove(_ context.Context, ref string) (brig.Network, error) {
	return brig.Network{ID: brig.ID("id-" + ref), Name: ref, Driver: "bridge"}, (*brigd)(b).step("net remove")
}

func (b *memberSeam) Connect(_ context.Context, c *brig.Container, ref string, spec brig.EndpointSpec) (map[string]brig.Endpoint, error) {
	out := maps.Clone(c.Endpoints)
	out[strings.TrimPrefix(ref, "id-")] = brig.Endpoint{Spec: spec, NetworkID: brig.ID(ref), Addr4: netip.MustParsePrefix("172.31.0.2/16"), DNSNames: c.DNSNames(spec.Aliases)}
	return out, (*brigd)(b).step("net connect")
}

func (b *memberSeam) Disconnect(_ context.Context, c *brig.Container, ref string) (map[string]brig.Endpoint, error) {
	out := maps.Clone(c.Endpoints)
	delete(out, strings.TrimPrefix(ref, "id-"))
	return out, (*brigd)(b).step("net disconnect")
}

func (b *memberSeam) Rename(context.Context, *brig.Container) error {
	return (*brigd)(b).step("net rename")
}

// actions lists the events so far, "type action".
func (w *world) actions() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for _, e := range w.events {
		out = append(out, e.Type+" "+e.Action)
	}
	return out
}

// running names the containers that run, by the records.
func (b *brigd) live() (all, running []brig.ID) {
	list, _ := b.Containers.List(context.Background())
	for _, d := range list {
		all = append(all, d.ID)
		if d.State.HasProcess() {
			running = append(running, d.ID)
		}
	}
	return all, running
}

// checkNothingLeft compares what exists with what records name. It is for a moment when nothing is under way.
func (b *brigd) checkNothingLeft(t *testing.T) {
	t.Helper()
	all, running := b.live()
	l := b.Containers.Live()
	shown := map[string]bool{}
	list, _ := b.Containers.List(t.Context())
	for _, d := range list {
		for _, v := range b.foreign(d) {
			shown[v.Name] = shown[v.Name] || d.State.HasProcess()
		}
	}
	apps, pods, up := 0, 0, map[string]bool{}
	for _, d := range list {
		if d.Pod != "" && d.State.HasProcess() {
			apps++
			up[d.Pod] = true
		}
	}
	recs, _ := (*recSeam)(b).List(t.Context(), kindPod)
	if pods = len(recs); pods != len(b.Containers.pods) {
		t.Errorf("pods: %d, recorded: %d", len(b.Containers.pods), pods)
	}
	for _, r := range recs {
		var p brig.Pod
		if err := json.Unmarshal(r.Value, &p); err != nil || (p.Sandbox != nil) != up[p.UUID()] {
			t.Errorf("pod %s: up %v, sandbox %v, %v", p.Name, up[p.UUID()], p.Sandbox, err)
		}
	}
	maps.DeleteFunc(shown, func(_ string, used bool) bool { return !used })
	b.world.mu.Lock()
	defer b.world.mu.Unlock()
	if len(b.layers) != len(all) || len(l.Containers) != len(all) {
		t.Errorf("root file systems: %d, containers: %d, live: %d", len(b.layers), len(all), len(l.Containers))
	}
	for _, id := range l.Containers {
		if _, ok := b.layers[id]; !ok {
			t.Errorf("a container without its root file system %s", id)
		}
	}
	if len(b.volData) != len(l.Volumes) {
		t.Errorf("volumes: %d, recorded: %d", len(b.volData), len(l.Volumes))
	}
	nets := len(running) - apps + len(up)
	if len(b.mounted) != len(running) || len(b.nets) != nets || len(b.jails) != len(running) || len(b.boxes) != len(up) {
		t.Errorf("running: %d, but mounts: %d, networks: %d (of %d), jails: %d; pods up: %d, sandboxes: %d",
			len(running), len(b.mounted), len(b.nets), nets, len(b.jails), len(up), len(b.boxes))
	}
	if len(b.volSeen) != len(shown) {
		t.Errorf("volumes from elsewhere in use: %v, mounted: %v", shown, b.volSeen)
	}
	names := 0
	for k := range b.recs {
		if strings.HasPrefix(k, kindName+"/") {
			names++
		}
	}
	if names != len(all)+pods {
		t.Errorf("names: %d, containers: %d, pods: %d", names, len(all), pods)
	}
	for _, dir := range []string{"containers", "run"} {
		list, _ := os.ReadDir(filepath.Join(b.root, dir))
		if len(list) > len(all)+pods {
			t.Errorf("%s: %d directories for %d containers and %d pods", dir, len(list), len(all), pods)
		}
	}
}
