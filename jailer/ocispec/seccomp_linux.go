package ocispec

import (
	"github.com/brigd/brig/internal/errs"
	profiles "github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// seccomp sets the system call filter: Docker's default profile, a given one, or none. It comes after the capabilities, on which the
// profile depends.
func seccomp(in *Input, s *specs.Spec) ([]string, error) {
	p := in.Jail.Spec.Seccomp
	if p == "unconfined" || p == "" && in.Jail.Spec.Privileged {
		return nil, nil
	}
	var err error
	if p == "" || p == "builtin" {
		s.Linux.Seccomp, err = profiles.GetDefaultProfile(s)
	} else {
		s.Linux.Seccomp, err = profiles.LoadProfile(p, s)
	}
	return nil, errs.As(errs.Invalid, err)
}
