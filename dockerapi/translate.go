package dockerapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/sys/signal"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/logopts"
)

// createBody is the body of POST /containers/create: moby's document, and what it dropped but older clients still send.
type createBody struct {
	container.CreateRequest
	Legacy legacyBody
}

// legacyBody holds fields that moby/api no longer has.
type legacyBody struct {
	MacAddress network.HardwareAddr // until 1.51: the container's own, on its first network
	HostConfig struct {
		Capabilities    []string // 1.40 only
		KernelMemory    int64    // until 1.41, in bytes
		KernelMemoryTCP int64    // until 1.51, in bytes
	}
}

// createHost is what validation needs to know of the host.
type createHost struct {
	NCPU int
	OS   string         // as runtime.GOOS
	Log  brig.LogConfig // of containers whose request says nothing
	// What inspect shows of a request that doesn't choose: "host" or "private", and an OCI runtime's name. "" shows what was asked.
	CgroupNS, Runtime string
}

// decodeCreate reads a create request. All its errors are Invalid.
func decodeCreate(body []byte) (*createBody, error) {
	body, err := listsOfStrings(body, "Cmd", "Entrypoint", "Shell")
	if err != nil {
		return nil, err
	}
	var b createBody
	if err := json.Unmarshal(body, &b.CreateRequest); err != nil {
		return nil, errs.New(errs.Invalid, "invalid JSON: %w", err)
	}
	if b.Config == nil {
		return nil, errs.New(errs.Invalid, "config cannot be empty in order to create a container")
	}
	if err := json.Unmarshal(body, &b.Legacy); err != nil {
		return nil, errs.New(errs.Invalid, "invalid JSON: %w", err)
	}
	if b.HostConfig == nil {
		b.HostConfig = &container.HostConfig{}
	}
	if b.NetworkingConfig == nil {
		b.NetworkingConfig = &network.NetworkingConfig{}
	}
	return &b, nil
}

// listsOfStrings wraps the named members of the JSON object doc that are a single string into a list, as API versions before 1.25 allow.
func listsOfStrings(doc []byte, names ...string) ([]byte, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(doc, &members); err != nil {
		return nil, errs.New(errs.Invalid, "invalid JSON: %w", err)
	}
	changed := false
	for key, raw := range members {
		single := bytes.HasPrefix(bytes.TrimSpace(raw), []byte{'"'})
		if single && slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, key) }) {
			members[key] = slices.Concat([]byte{'['}, raw, []byte{']'})
			changed = true
		}
	}
	if !changed {
		return doc, nil
	}
	return json.Marshal(members)
}

// translation carries one create request on its way to a brig.Spec. Every step reads the request and fills its own part of the
// Spec; a step that finds something that brig can't do refuses it or adds a warning.
type translation struct {
	minor    int // of the API version: 51 for 1.51
	host     createHost
	c        *container.Config
	h        *container.HostConfig
	nets     map[string]*network.EndpointSettings
	legacy   legacyBody
	spec     brig.Spec
	warnings []string
}

// translateCreate makes the engine's request of Docker's. It is pure: what needs a look at the host's files, images or networks is
// left to the engine. minor is the API version's second number. Errors are Invalid, NotFound or NotImplemented, in dockerd's words where it has some.
func translateCreate(b *createBody, minor int, host createHost) (brig.CreateRequest, []string, error) {
	t := &translation{minor: minor, host: host, c: b.Config, h: b.HostConfig, nets: b.NetworkingConfig.EndpointsConfig, legacy: b.Legacy}
	for _, step := range []func(*translation) error{
		(*translation).versions, (*translation).process, (*translation).health, (*translation).netMode, (*translation).endpoints, (*translation).ports,
		(*translation).resolver, (*translation).restart, (*translation).mounts, (*translation).capabilities, (*translation).security,
		(*translation).memory, (*translation).cpu, (*translation).blockIO, (*translation).processLimits, (*translation).devices,
		(*translation).namespaces, (*translation).logging, (*translation).storage, (*translation).elsewhere,
	} {
		if err := step(t); err != nil {
			return brig.CreateRequest{}, t.warnings, err
		}
	}
	doc, err := json.Marshal(t.h)
	if err != nil {
		return brig.CreateRequest{}, t.warnings, errs.Wrap(err, "keep the host config")
	}
	return brig.CreateRequest{Spec: t.spec, HostConfig: doc}, t.warnings, nil
}

func (t *translation) warn(format string, args ...any) {
	t.warnings = append(t.warnings, fmt.Sprintf(format, args...))
}

func invalid(format string, args ...any) error { return errs.New(errs.Invalid, format, args...) }

// versions drops what the client's API version doesn't have, so that a field means what it meant there.
func (t *translation) versions() error {
	if t.minor < 40 && t.h.IpcMode == "" {
		t.h.IpcMode = container.IPCModeShareable
	}
	if t.minor < 42 {
		t.h.ConsoleSize = [2]uint{}
	}
	if t.minor < 43 {
		t.h.Annotations = nil
	}
	if t.minor < 44 && t.c.Healthcheck != nil {
		t.c.Healthcheck.StartInterval = 0
	}
	if t.minor == 40 && len(t.legacy.HostConfig.Capabilities) > 0 {
		return invalid("the HostConfig.Capabilities field is not supported by this daemon; use CapAdd and CapDrop to set capabilities")
	}
	for i := range t.h.Mounts {
		if err := oldMount(&t.h.Mounts[i], t.minor); err != nil {
			return err
		}
	}
	return nil
}

// process is everything of Config that is neither network, mount nor health.
func (t *translation) process() error {
	c, s := t.c, &t.spec
	if len(c.Hostname) > 64 {
		return invalid("hostname %q is too long (maximum 64 bytes)", c.Hostname)
	}
	for _, env := range c.Env {
		if name, _, _ := strings.Cut(env, "="); name == "" {
			return invalid("invalid environment variable: %s", env)
		}
	}
	if c.WorkingDir != "" && !path.IsAbs(c.WorkingDir) {
		return invalid("the working directory '%s' is invalid, it needs to be an absolute path", c.WorkingDir)
	}
	if c.StopSignal != "" {
		if _, err := signal.ParseSignal(c.StopSignal); err != nil {
			return invalid("invalid signal: %s", c.StopSignal)
		}
	}
	for key := range t.h.Annotations {
		if key == "" {
			return invalid("invalid Annotations: the empty string is not permitted as an annotation key")
		}
	}
	s.Image, s.Hostname, s.Domainname, s.User = c.Image, c.Hostname, c.Domainname, c.User
	s.TTY, s.OpenStdin, s.StdinOnce = c.Tty, c.OpenStdin, c.StdinOnce
	s.AttachIn, s.AttachOut, s.AttachErr = c.AttachStdin, c.AttachStdout, c.AttachStderr
	s.Entrypoint, s.Cmd, s.Env, s.Shell, s.OnBuild = c.Entrypoint, c.Cmd, c.Env, c.Shell, c.OnBuild
	if c.WorkingDir != "" {
		s.WorkingDir = path.Clean(c.WorkingDir)
	}
	s.Labels, s.Annotations = c.Labels, t.h.Annotations
	s.StopSignal, s.StopTimeout = c.StopSignal, c.StopTimeout
	s.Init = t.h.Init
	return nil
}

// health checks and keeps the health check.
func (t *translation) health() error {
	h := t.c.Healthcheck
	if h == nil {
		return nil
	}
	for _, d := range []struct {
		name string
		d    time.Duration
	}{{"Interval", h.Interval}, {"Timeout", h.Timeout}, {"StartPeriod", h.StartPeriod}, {"StartInterval", h.StartInterval}} {
		if d.d != 0 && d.d < container.MinimumDuration {
			return invalid("%s in Healthcheck cannot be less than %s", d.name, container.MinimumDuration)
		}
	}
	if h.Retries < 0 {
		return invalid("Retries in Healthcheck cannot be negative")
	}
	t.spec.Health = &brig.HealthCheck{Test: h.Test, Interval: h.Interval, Timeout: h.Timeout, StartPeriod: h.StartPeriod, StartInterval: h.StartInterval, Retries: h.Retries}
	return nil
}

func (t *translation) restart() error {
	if t.h.AutoRemove && !t.h.RestartPolicy.IsNone() {
		return invalid("can't create 'AutoRemove' container with restart policy")
	}
	if err := container.ValidateRestartPolicy(t.h.RestartPolicy); err != nil {
		return invalid("%w", err)
	}
	t.spec.AutoRemove = t.h.AutoRemove
	t.spec.Restart = brig.RestartPolicy{Name: string(t.h.RestartPolicy.Name), MaxRetries: t.h.RestartPolicy.MaximumRetryCount}
	return nil
}

func (t *translation) logging() error {
	l := &t.h.LogConfig
	c := logopts.Merge(brig.LogConfig{Driver: l.Type, Options: l.Config}, t.host.Log)
	if err := logopts.Validate(c); err != nil {
		return err
	}
	t.warnings = append(t.warnings, logopts.Warnings(c)...)
	l.Type, l.Config = c.Driver, c.Options // inspect shows what came of the daemon's defaults
	t.spec.Log = c
	return nil
}

// elsewhere deals with the fields that mean nothing on this kind of host or to this engine.
func (t *translation) elsewhere() error {
	h := t.h
	if !h.Isolation.IsDefault() {
		return invalid("invalid isolation '%s' on %s", h.Isolation, t.host.OS)
	}
	if h.IOMaximumBandwidth != 0 || h.IOMaximumIOps != 0 {
		return invalid("Invalid QoS settings: %s does not support Maximum IO Bandwidth or Maximum IO IOps", t.host.OS)
	}
	if h.CPUPercent > 0 {
		t.warn("%s does not support CPU percent. Percent discarded.", t.host.OS)
	}
	if h.CPUCount > 0 {
		t.warn("%s does not support CPU count. Count discarded.", t.host.OS)
	}
	if t.minor < 42 && t.legacy.HostConfig.KernelMemory > 0 || t.legacy.HostConfig.KernelMemoryTCP > 0 {
		t.warn("Limits of kernel memory are deprecated and not enforced. Limitation discarded.")
	}
	if h.Umask != nil {
		return notYet("HostConfig.Umask is not supported by brig")
	}
	return nil
}
