package runtime

import (
	"cmp"
	"context"
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// kindPod is the kind of the records of pods; the key is the ID. Their names are among those of containers.
const kindPod = "pod"

// Sandboxes keep what the apps of a pod share beside their network, and what outlives each of them: IPC with /dev/shm, and the host name.
type Sandboxes interface {
	// MakeSandbox makes it, and a network stack with a loopback alone where s.Netns is private, and fills in s.
	MakeSandbox(ctx context.Context, s *brig.Sandbox) error
	// DropSandbox is idempotent.
	DropSandbox(ctx context.Context, id brig.ID) error
	// SweepSandboxes drops all of this instance but live.
	SweepSandboxes(ctx context.Context, live []brig.ID) error
}

// pod is one pod in memory. A container that is a pod by itself has none.
//
// Lock order: a pod's lock, a container's lock, a pod's joining.
type pod struct {
	id      brig.ID
	lock    lock // held while the pod as a whole is started, stopped or removed
	joining lock // held while an app comes up or goes down

	// Owned by the holder of joining.
	users map[brig.ID]bool // the apps that are up, and the pod's own ID while it is being started as a whole

	// Guarded by Containers.mu.
	rec    *brig.Pod // replaced, never changed in place
	gone   bool
	halted bool // by a stop: a start that is under way gives up
}

func newPod(rec *brig.Pod) *pod {
	return &pod{id: rec.ID, lock: newLock(), joining: newLock(), users: map[brig.ID]bool{}, rec: rec}
}

// loadPods reads the records. An app whose pod has no record can't be: both are written, and deleted, so that the pod's is there as long as an app's.
func (c *Containers) loadPods(ctx context.Context) error {
	recs, err := c.cfg.Records.List(ctx, kindPod)
	if err != nil {
		return errs.Wrap(err, "load pods")
	}
	for _, r := range recs {
		var p brig.Pod
		if err := json.Unmarshal(r.Value, &p); err != nil {
			return errs.Wrap(err, "record of pod %s", r.Key)
		}
		c.pods[p.UUID()] = newPod(&p)
		c.byName[p.Name] = p.ID
	}
	return nil
}

func podRecord(p *brig.Pod) (brig.Record, error) {
	b, err := json.Marshal(p)
	return brig.Record{Kind: kindPod, Key: string(p.ID), Value: b}, errs.Wrap(err, "encode pod %s", p.Name)
}

// savePod saves next, then shows it.
func (c *Containers) savePod(ctx context.Context, p *pod, next *brig.Pod) error {
	r, err := podRecord(next)
	if err == nil {
		err = c.cfg.Records.Put(ctx, []brig.Record{r}, nil)
	}
	if err != nil {
		return errs.Wrap(err, "save pod %s", next.Name)
	}
	c.showPod(p, next)
	return nil
}

func (c *Containers) showPod(p *pod, next *brig.Pod) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p.rec = next
}

func (c *Containers) podRec(p *pod) *brig.Pod {
	c.mu.Lock()
	defer c.mu.Unlock()
	return p.rec
}

// podOf returns the pod that d is an app of; nil: it is one by itself.
func (c *Containers) podOf(d *brig.Container) *pod {
	if d.Pod == "" {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pods[d.Pod]
}

// crew lists the containers of p's apps that there are, in the manifest's order.
func (c *Containers) crew(p *pod) (out []*container) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range p.rec.Apps {
		if ct := c.byID[a.Container]; ct != nil {
			out = append(out, ct)
		}
	}
	return out
}

// box is the pod in the shape of a container without a process: what networks, and the files that name hosts, see of it.
func (c *Containers) box(p *brig.Pod) *brig.Container {
	dir := c.dir(p.ID)
	d := &brig.Container{ID: p.ID, Name: p.Name, Created: p.Created, Spec: p.Spec, Endpoints: p.Endpoints}
	if p.Sandbox != nil {
		d.State = brig.Running
	}
	d.HostnamePath, d.HostsPath, d.ResolvConfPath = filepath.Join(dir, "hostname"), filepath.Join(dir, "hosts"), filepath.Join(dir, "resolv.conf")
	return d
}

// findPod finds a pod by name, UUID, or unique prefix of a UUID, or by one of its apps' containers. A container that is a pod by itself is
// returned as ct. NotFound.
func (c *Containers) findPod(ref string) (p *pod, ct *container, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ref == "" {
		return nil, nil, errs.New(errs.Invalid, "invalid name or UUID of a pod: %q", ref)
	}
	if p = c.pods[ref]; p != nil {
		return p, nil, nil
	}
	for _, p = range c.pods {
		if p.rec.Name == ref || string(p.id) == ref {
			return p, nil, nil
		}
	}
	if ct, err = c.findLocked(ref); err == nil {
		return c.pods[ct.rec.Pod], ct, nil
	}
	if errs.Is(err, errs.Invalid) {
		return nil, nil, err
	}
	p, ct = nil, nil
	found := 0
	for uuid, q := range c.pods {
		if strings.HasPrefix(uuid, ref) {
			p = q
			found++
		}
	}
	for _, x := range c.byID {
		if x.rec.Pod == "" && strings.HasPrefix(x.rec.PodUUID(), ref) {
			ct = x
			found++
		}
	}
	switch found {
	case 0:
		return nil, nil, errs.New(errs.NotFound, "No such pod: %s", ref)
	case 1:
		return p, ct, nil
	}
	return nil, nil, errs.New(errs.Invalid, "multiple pods found with provided prefix: %s", ref)
}

// holdPod finds a pod and takes its lock; the caller releases it. A container that is a pod by itself is returned without a lock.
func (c *Containers) holdPod(ctx context.Context, ref string) (*pod, *container, error) {
	p, ct, err := c.findPod(ref)
	if err != nil || p == nil {
		return nil, ct, err
	}
	if err := p.lock.acquire(ctx); err != nil {
		return nil, nil, err
	}
	c.mu.Lock()
	gone := p.gone
	c.mu.Unlock()
	if gone {
		p.lock.release()
		return nil, nil, errs.New(errs.NotFound, "No such pod: %s", ref)
	}
	return p, nil, nil
}

// alone is the pod that a container by itself is.
func alone(d *brig.Container) *brig.Pod {
	return &brig.Pod{ID: d.ID, Name: d.Name, Created: d.Created, Apps: []brig.PodApp{{Name: d.AppName(), Container: d.ID}}, Spec: d.Spec,
		Endpoints: d.Endpoints, AutoRemove: d.Spec.AutoRemove, Removing: d.State == brig.Removing}
}

// PodGet returns copies of a pod and of its apps' containers, in the pod's order.
func (c *Containers) PodGet(ctx context.Context, ref string) (*brig.Pod, []*brig.Container, error) {
	p, ct, err := c.findPod(ref)
	if err != nil {
		return nil, nil, err
	}
	if p == nil {
		d, err := c.Get(ctx, string(ct.id))
		if err != nil {
			return nil, nil, err
		}
		p := alone(d)
		p.Manifest, err = c.projection(ctx, d)
		return p, []*brig.Container{d}, err
	}
	rec := c.podRec(p).Clone()
	var out []*brig.Container
	for _, a := range rec.Apps {
		if d, err := c.Get(ctx, string(a.Container)); err == nil {
			out = append(out, d)
		}
	}
	return rec, out, nil
}

// PodList returns copies of all pods, the newest first; containers that are pods by themselves are among them.
func (c *Containers) PodList(context.Context) ([]*brig.Pod, error) {
	c.mu.Lock()
	out := make([]*brig.Pod, 0, len(c.byID))
	for _, p := range c.pods {
		out = append(out, p.rec.Clone())
	}
	for _, ct := range c.byID {
		if ct.rec.Pod == "" {
			out = append(out, alone(ct.rec.Clone()))
		}
	}
	c.mu.Unlock()
	slices.SortFunc(out, func(a, b *brig.Pod) int { return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(a.ID, b.ID)) })
	return out, nil
}

// belongs refuses, for an app of a pod, what only the pod as a whole can have done to it.
func (c *Containers) belongs(d *brig.Container, what string) error {
	p := c.podOf(d)
	if p == nil {
		return nil
	}
	return errs.New(errs.Conflict, "container %s is app %s of pod %s: %s", d.Name, d.App, c.podRec(p).Name, what)
}
