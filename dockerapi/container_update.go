package dockerapi

import (
	"context"
	"encoding/json"
	"net/http"
	goruntime "runtime"

	"github.com/moby/moby/api/types/container"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

func (s *Server) containerUpdate(ctx context.Context, r *request) (response, error) {
	var body container.UpdateConfig
	if err := r.decode(&body); err != nil {
		return nil, err
	}
	if r.version < 40 {
		body.PidsLimit = nil
	}
	if body.RestartPolicy.Name != "" {
		if err := container.ValidateRestartPolicy(body.RestartPolicy); err != nil {
			return nil, invalid("%w", err)
		}
	}
	h := createHost{NCPU: goruntime.NumCPU(), OS: s.ostype}
	var warnings []string
	more, err := s.Updates.Update(ctx, r.ref(), func(c *brig.Container) error {
		var err error
		warnings, err = updateContainer(c, &body, h)
		return err
	})
	if err != nil {
		return nil, err
	}
	return asJSON(http.StatusOK, container.UpdateResponse{Warnings: append(append([]string{}, warnings...), more...)}), nil
}

// updateContainer gives c what an update asks for. It is pure but for c. What an update doesn't name stays as it is.
func updateContainer(c *brig.Container, u *container.UpdateConfig, host createHost) (warnings []string, err error) {
	h := &container.HostConfig{}
	if len(c.HostConfig) > 0 {
		if err := json.Unmarshal(c.HostConfig, h); err != nil {
			return nil, errs.Wrap(err, "read the host config of container %s", c.ID.Short())
		}
	}
	if h.Memory > 0 && h.MemorySwap == 0 {
		h.MemorySwap = 2 * h.Memory // what it has been
	}
	if err := updateConflicts(&h.Resources, &u.Resources); err != nil {
		return nil, err
	}
	take(&h.BlkioWeight, u.BlkioWeight)
	take(&h.CPUShares, u.CPUShares)
	take(&h.NanoCPUs, u.NanoCPUs)
	take(&h.CPUPeriod, u.CPUPeriod)
	take(&h.CPUQuota, u.CPUQuota)
	take(&h.CPURealtimePeriod, u.CPURealtimePeriod)
	take(&h.CPURealtimeRuntime, u.CPURealtimeRuntime)
	take(&h.CpusetCpus, u.CpusetCpus)
	take(&h.CpusetMems, u.CpusetMems)
	take(&h.Memory, u.Memory)
	take(&h.MemorySwap, u.MemorySwap)
	take(&h.MemoryReservation, u.MemoryReservation)
	take(&h.PidsLimit, u.PidsLimit)
	if u.RestartPolicy.Name != "" {
		h.RestartPolicy = u.RestartPolicy
	}
	t := &translation{host: host, h: h, spec: brig.Spec{}}
	for _, step := range []func(*translation) error{(*translation).memory, (*translation).cpu, (*translation).blockIO, (*translation).processLimits} {
		if err := step(t); err != nil {
			return t.warnings, err
		}
	}
	c.Spec.Limits = t.spec.Limits
	c.Spec.Restart = brig.RestartPolicy{Name: string(h.RestartPolicy.Name), MaxRetries: h.RestartPolicy.MaximumRetryCount}
	c.HostConfig, err = json.Marshal(h)
	return t.warnings, errs.Wrap(err, "keep the host config")
}

// take takes a value that is there.
func take[T comparable](to *T, v T) {
	var zero T
	if v != zero {
		*to = v
	}
}

// updateConflicts refuses what doesn't go with what a container has already, in dockerd's words.
func updateConflicts(has, u *container.Resources) error {
	conflict := func(text string) error { return errs.New(errs.Conflict, "%s", text) }
	switch {
	case u.NanoCPUs > 0 && has.CPUPeriod > 0:
		return conflict("Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set")
	case u.NanoCPUs > 0 && has.CPUQuota > 0:
		return conflict("Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set")
	case u.CPUPeriod > 0 && has.NanoCPUs > 0:
		return conflict("Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set")
	case u.CPUQuota > 0 && has.NanoCPUs > 0:
		return conflict("Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set")
	case u.Memory > 0 && u.Memory > has.MemorySwap && u.MemorySwap == 0:
		return conflict("Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time")
	}
	return nil
}
