package runtime

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strings"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/identity"
	"github.com/brigd/brig/internal/undo"
)

// labelMetadata turns a container's metadata off, with the value "off".
const labelMetadata = "io.brig.metadata"

// metadataVariable is the environment variable by which an app finds its metadata (appc spec 0.8.11, ace.md).
const metadataVariable = "AC_METADATA_URL"

// ImageDocuments shows what images are; Images does.
type ImageDocuments interface {
	ImageGet(ctx context.Context, ref string) (*brig.ImageInfo, error)
	// ImageBlob returns the exact bytes of an image's config (kind "config") or of its appc manifest ("aci").
	ImageBlob(ctx context.Context, ref, kind string) ([]byte, error)
}

// hasIdentity reports whether d's pod, which d may be by itself, may ask for its metadata. A step of a build may not.
func (c *Containers) hasIdentity(d *brig.Container) bool {
	return c.cfg.Identities != nil && d.Tree == "" && d.Spec.Labels[labelMetadata] != "off"
}

// places are the addresses that d, which runs, has in networks, with the host's there; the one by which it leaves the host comes first.
// Without a network there are none.
func (c *Containers) places(ctx context.Context, d *brig.Container) []brig.PodPlace {
	if ref, ok := strings.CutPrefix(d.Spec.NetworkMode, "container:"); ok {
		ct, err := c.find(ref)
		if err != nil {
			return nil
		}
		d = c.record(ct)
	}
	type found struct {
		brig.PodPlace
		leads    bool
		priority int
		name     string
	}
	var all []found
	for name, ep := range d.Endpoints {
		w, err := c.cfg.Networks.Lookup(ctx, name)
		if err != nil {
			continue
		}
		for _, s := range w.Subnets {
			for _, a := range []netip.Addr{ep.Addr4.Addr(), ep.Addr6.Addr()} {
				if a.IsValid() && s.Prefix.Contains(a) && s.Gateway.IsValid() {
					all = append(all, found{brig.PodPlace{Source: a, Gateway: s.Gateway}, !w.Internal, ep.Spec.GwPriority, name})
				}
			}
		}
	}
	rank := func(b bool) int { return map[bool]int{true: 0, false: 1}[b] }
	slices.SortFunc(all, func(a, b found) int {
		return cmp.Or(rank(a.Source.Is4())-rank(b.Source.Is4()), rank(a.leads)-rank(b.leads), cmp.Compare(b.priority, a.priority), cmp.Compare(a.name, b.name))
	})
	out := make([]brig.PodPlace, len(all))
	for i := range all {
		out[i] = all[i].PodPlace
	}
	return out
}

// metadataEnv is what a process of d is told of its metadata.
func (c *Containers) metadataEnv(ctx context.Context, d *brig.Container) []string {
	if !c.hasIdentity(d) {
		return nil
	}
	for _, at := range c.places(ctx, d) {
		if url := c.cfg.Identities.URL(d.PodUUID(), at.Gateway); url != "" {
			return []string{metadataVariable + "=" + url}
		}
	}
	return nil
}

// introduce publishes d, which is about to run, beside what else is done for it. wait is called before its process runs: it may ask at once.
func (c *Containers) introduce(ctx context.Context, d *brig.Container, u *undo.Stack) (wait func()) {
	if d.Pod != "" || !c.hasIdentity(d) { // a pod is introduced when it is raised
		return func() {}
	}
	return c.introduceAs(d.PodUUID(), func() { c.publish(ctx, d) }, u)
}

// introduceAs has publish publish the pod uuid.
func (c *Containers) introduceAs(uuid string, publish func(), u *undo.Stack) (wait func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		publish()
	}()
	wait = func() { <-done }
	u.Push("withdraw identity", func(ctx context.Context) error {
		wait()
		return c.cfg.Identities.Withdraw(ctx, uuid)
	})
	return wait
}

// publish tells the metadata service of d, which runs and is a pod by itself. A container runs without it as well: what goes wrong is logged.
func (c *Containers) publish(ctx context.Context, d *brig.Container) {
	if d.Pod != "" || !c.hasIdentity(d) {
		return
	}
	places := c.places(ctx, d)
	if len(places) == 0 {
		return
	}
	img, name, err := c.describeImage(ctx, d)
	var id brig.PodIdentity
	if err == nil {
		id, err = identity.Of(d.PodUUID(), identity.Container(d, img, name), []identity.Image{img}, places)
	}
	if err == nil {
		err = c.cfg.Identities.Publish(context.WithoutCancel(ctx), id)
	}
	if err != nil {
		c.log.Warn("a container's metadata can't be served now", "container", d.ID.Short(), "err", err)
	}
}

// describeImage finds what is known of d's image, which may be gone.
func (c *Containers) describeImage(ctx context.Context, d *brig.Container) (img identity.Image, name string, err error) {
	info, err := c.cfg.Documents.ImageGet(ctx, string(d.Image))
	if err == nil {
		img.ID, name = info.ACI.ID, info.ACI.Name
		img.Manifest, err = c.cfg.Documents.ImageBlob(ctx, string(d.Image), "aci")
	}
	if errs.Is(err, errs.NotFound) {
		return identity.Image{}, "", nil
	}
	return img, name, err
}

// publishWithin publishes d anew after its networks have changed, and those that share them. The caller holds d's lock.
func (c *Containers) publishWithin(ctx context.Context, d *brig.Container) {
	c.publish(ctx, d)
	c.republish(func(x *brig.Container) bool {
		ref, ok := strings.CutPrefix(x.Spec.NetworkMode, "container:")
		return ok && (ref == string(d.ID) || ref == d.Name)
	})
}

// ImageIdentified publishes anew the containers of an image whose ACI ID was not known when they started.
func (c *Containers) ImageIdentified(image brig.Digest) {
	c.republish(func(x *brig.Container) bool { return x.Image == image })
}

// republish publishes anew what runs and fits.
func (c *Containers) republish(fits func(*brig.Container) bool) {
	if c.cfg.Identities == nil {
		return
	}
	for _, ct := range c.whoRuns(fits) {
		if ct.lock.acquire(c.base) != nil {
			return
		}
		if d := c.record(ct); d.State.HasProcess() {
			c.publish(c.base, d)
		}
		ct.lock.release()
	}
}

// whoRuns lists the containers that have a process and fit.
func (c *Containers) whoRuns(fits func(*brig.Container) bool) (out []*container) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ct := range c.byID {
		if ct.rec.State.HasProcess() && fits(ct.rec) {
			out = append(out, ct)
		}
	}
	return out
}

// withdraw ends what publish began.
func (c *Containers) withdraw(ctx context.Context, d *brig.Container) {
	if d.Pod != "" || !c.hasIdentity(d) {
		return
	}
	if err := c.cfg.Identities.Withdraw(ctx, d.PodUUID()); err != nil {
		c.log.Warn("a container's metadata couldn't be withdrawn", "container", d.ID.Short(), "err", err)
	}
}

// sweepIdentities withdraws the pods that don't run.
func (c *Containers) sweepIdentities(ctx context.Context) {
	if c.cfg.Identities == nil {
		return
	}
	var live []string
	for _, ct := range c.whoRuns(func(x *brig.Container) bool { return c.hasIdentity(x) }) {
		live = append(live, c.record(ct).PodUUID())
	}
	if err := c.cfg.Identities.Sweep(ctx, live); err != nil {
		c.log.Warn("the metadata service may still know containers that have ended", "err", err)
	}
}
