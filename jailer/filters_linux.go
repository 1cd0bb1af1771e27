package jailer

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// bpfAnnotation has crun take a compiled filter instead of compiling the profile (crun(1), "run.oci.seccomp_bpf_data"): half of a start's time.
// The profile stays in the configuration, so a crun that doesn't know the annotation still filters.
const bpfAnnotation = "run.oci.seccomp_bpf_data"

// maxFilters bounds how many compiled filters are kept.
const maxFilters = 64

type profileKey [sha256.Size]byte

// filters keeps the system call filters that crun has compiled, by profile. Jailer.mu guards it.
type filters struct {
	compiled map[profileKey]string // base64
	pending  map[string]profileKey // by jail ID: profiles that crun will compile
}

// useFilter annotates s with the compiled filter of its profile, or notes that a start of the jail will give one.
func (j *Jailer) useFilter(id string, s *specs.Spec) error {
	if !j.runtime.crun || s.Linux.Seccomp == nil {
		return nil
	}
	b, err := json.Marshal(s.Linux.Seccomp)
	if err != nil {
		return err
	}
	key := profileKey(sha256.Sum256(b))
	j.mu.Lock()
	defer j.mu.Unlock()
	if bpf, ok := j.filters.compiled[key]; ok {
		s.Annotations = maps.Clone(s.Annotations)
		if s.Annotations == nil {
			s.Annotations = map[string]string{}
		}
		s.Annotations[bpfAnnotation] = bpf
		return nil
	}
	j.filters.pending[id] = key
	return nil
}

// keepFilter keeps what crun has compiled for a jail that it started.
func (j *Jailer) keepFilter(id, dir string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	key, ok := j.filters.pending[id]
	if !ok {
		return
	}
	delete(j.filters.pending, id)
	b, err := os.ReadFile(filepath.Join(dir, stateName, id, "seccomp.bpf"))
	if err != nil || len(b) == 0 {
		return // this crun keeps it elsewhere: it compiles each time
	}
	if len(j.filters.compiled) >= maxFilters {
		clear(j.filters.compiled)
	}
	j.filters.compiled[key] = base64.StdEncoding.EncodeToString(b)
}

// dropFilter forgets that a start was to give a filter.
func (j *Jailer) dropFilter(id string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.filters.pending, id)
}
