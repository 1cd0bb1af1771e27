package runtime

import (
	"context"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/elfcheck"
	"github.com/brigd/brig/internal/errs"
)

// CheckImage says how an image will do on a host, as elfcheck.ParseHost reads it; "" is this one. platform is as With's. Nothing of the image is
// executed. NotFound: no such image, or only one for another platform. Invalid: the host.
func (i *Images) CheckImage(ctx context.Context, ref, platform, host string) (report *elfcheck.Report, err error) {
	h := i.Machine()
	if host != "" {
		if h, err = elfcheck.ParseHost(host, h.Arch); err != nil {
			return nil, err
		}
	}
	var img *brig.Image
	var l *lease
	err = i.With(ctx, ref, platform, func(found *brig.Image) error {
		img, l = found, i.lease()
		l.image(found)
		return nil
	})
	if err != nil {
		return nil, err
	}
	defer l.release(ctx)
	err = i.withTree(ctx, img, func(root string) error {
		report, err = elfcheck.Check(ctx, root, elfcheck.Image{
			Ref: ref, ID: string(img.ID), OS: img.Platform.OS, Arch: img.Platform.Architecture, Entrypoint: img.Config.Entrypoint, Cmd: img.Config.Cmd,
			Env: img.Config.Env, Dir: img.Config.WorkingDir,
		}, h)
		return errs.Wrap(err, "check image %s", ref)
	})
	return report, err
}
