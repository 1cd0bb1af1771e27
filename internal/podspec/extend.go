package podspec

import (
	"slices"

	"github.com/appc/spec/schema"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// ConfigUser is the user of an image's app as Docker's config has it: "" where both are 0.
func ConfigUser(im *schema.ImageManifest) (string, error) {
	if im.App.User == "0" && im.App.Group == "0" {
		return "", nil
	}
	return User(im.App, fromDocker(im))
}

// Extend puts into the Spec of a container of Docker's, in which request and image config are merged already, what the image's appc manifest
// says beyond the config: event handlers, supplementary groups, sockets, isolators, and that the working directory must be there. What the
// request sets itself wins. warnings say what is ignored.
func Extend(s *brig.Spec, manifest []byte) (warnings []string, err error) {
	im, unknown, err := ParseImage(manifest)
	if err != nil {
		return nil, errs.Wrap(err, "the image's appc manifest")
	}
	if im.App == nil {
		return nil, nil
	}
	var more brig.Spec
	own(&more, im.App, fromDocker(im))
	iso := isolating{spec: &more}
	if err := iso.apply(im.App.Isolators, unknown); err != nil {
		return nil, errs.Wrap(err, "the image's appc manifest")
	}
	user, err := ConfigUser(im)
	if err != nil {
		return nil, err
	}
	if s.User == user {
		for _, g := range more.GroupAdd {
			if !slices.Contains(s.GroupAdd, g) {
				s.GroupAdd = append(slices.Clone(s.GroupAdd), g)
			}
		}
	}
	s.PreStart, s.PostStop, s.Sockets = more.PreStart, more.PostStop, more.Sockets
	s.CwdExists = more.CwdExists && s.WorkingDir == im.App.WorkingDirectory
	if !s.Privileged && len(s.CapAdd)+len(s.CapDrop) == 0 {
		s.CapAdd, s.CapDrop = more.CapAdd, more.CapDrop
	}
	if s.Seccomp == "" && !s.Privileged {
		s.Seccomp, s.Syscalls = more.Seccomp, more.Syscalls
	}
	s.NoNewPrivileges = s.NoNewPrivileges || more.NoNewPrivileges
	if s.OomScoreAdj == 0 {
		s.OomScoreAdj = more.OomScoreAdj
	}
	extendLimits(&s.Limits, &more.Limits)
	for _, i := range iso.results {
		if i.Result == Ignored {
			warnings = append(warnings, "the image's isolator "+i.Name+" is ignored: "+i.Why)
		}
	}
	return warnings, nil
}

// extendLimits takes from image what no flag of the same kind sets in l.
func extendLimits(l, image *brig.Limits) {
	if l.Memory == 0 && l.MemoryReservation == 0 {
		l.Memory, l.MemoryReservation = image.Memory, image.MemoryReservation
	}
	if l.NanoCPUs == 0 && l.CPUQuota == 0 && l.CPUPeriod == 0 {
		l.NanoCPUs = image.NanoCPUs
	}
	if l.CPUShares == 0 {
		l.CPUShares = image.CPUShares
	}
}
