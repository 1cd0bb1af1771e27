package runtime

import (
	"context"
	"encoding/json"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/identity"
	"github.com/brigd/brig/internal/podspec"
	"github.com/brigd/brig/internal/undo"
)

// introducePod publishes a pod that comes up, as introduce does a container.
func (c *Containers) introducePod(ctx context.Context, rec *brig.Pod, u *undo.Stack) (wait func()) {
	if !c.hasIdentity(c.box(rec)) {
		return func() {}
	}
	return c.introduceAs(rec.UUID(), func() { c.publishPod(ctx, rec) }, u)
}

// publishPod tells the metadata service of a pod that is up. A pod runs without it as well: what goes wrong is logged.
func (c *Containers) publishPod(ctx context.Context, rec *brig.Pod) {
	box := c.box(rec)
	if !c.hasIdentity(box) {
		return
	}
	places := c.places(ctx, box)
	if len(places) == 0 {
		return
	}
	id, err := c.describePod(ctx, rec, places)
	if err == nil {
		err = c.cfg.Identities.Publish(context.WithoutCancel(ctx), id)
	}
	if err != nil {
		c.log.Warn("a pod's metadata can't be served now", "pod", rec.Name, "err", err)
	}
}

func (c *Containers) describePod(ctx context.Context, rec *brig.Pod, places []brig.PodPlace) (brig.PodIdentity, error) {
	pm, _, err := podspec.ParsePod(rec.Manifest)
	if err != nil {
		return brig.PodIdentity{}, err
	}
	var images []identity.Image
	for _, a := range rec.Apps {
		ct, err := c.find(string(a.Container))
		if err != nil {
			return brig.PodIdentity{}, err
		}
		img, _, err := c.describeImage(ctx, c.record(ct))
		if err != nil {
			return brig.PodIdentity{}, err
		}
		images = append(images, img)
	}
	return identity.Of(rec.UUID(), pm, images, places)
}

// withdrawPod ends what publishPod began.
func (c *Containers) withdrawPod(ctx context.Context, rec *brig.Pod) error {
	if !c.hasIdentity(c.box(rec)) {
		return nil
	}
	return errs.Wrap(c.cfg.Identities.Withdraw(ctx, rec.UUID()), "withdraw the pod's metadata")
}

// projection is the reified manifest of the pod that a container by itself is; nil if the ACI ID of its image is not known, or its image is gone.
func (c *Containers) projection(ctx context.Context, d *brig.Container) (json.RawMessage, error) {
	if c.cfg.Documents == nil {
		return nil, nil
	}
	img, name, err := c.describeImage(ctx, d)
	if err != nil || img.ID == "" {
		return nil, err
	}
	b, err := json.Marshal(identity.Container(d, img, name))
	return b, errs.Wrap(err, "manifest of container %s", d.ID.Short())
}
