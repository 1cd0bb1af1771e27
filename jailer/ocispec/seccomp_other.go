//go:build !linux

package ocispec

import "github.com/opencontainers/runtime-spec/specs-go"

// seccomp is Linux's alone.
func seccomp(*Input, *specs.Spec) ([]string, error) { return nil, nil }
