package ocispec

import (
	"fmt"
	"slices"

	"github.com/brigd/brig/internal/errs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// oomScore sets how soon the kernel kills the container for want of memory. Less than the daemon's own takes CAP_SYS_RESOURCE (proc(5), oom_score_adj).
func oomScore(in *Input, s *specs.Spec) ([]string, error) {
	want := in.Jail.Spec.OomScoreAdj
	if want < -1000 || want > 1000 {
		return nil, errs.New(errs.Invalid, "Invalid value %d, range for oom score adj is [-1000, 1000]", want)
	}
	own := in.Host.OomScoreAdj
	if want < own && !slices.Contains(in.Host.Caps, "CAP_SYS_RESOURCE") {
		if want == 0 {
			return nil, nil // nobody asked; it stays the daemon's
		}
		s.Process.OOMScoreAdj = &own
		return []string{fmt.Sprintf("The daemon may not lower oom_score_adj below its own: %d raised to %d", want, own)}, nil
	}
	s.Process.OOMScoreAdj = &want
	return nil, nil
}
