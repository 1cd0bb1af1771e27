package ocispec

import "github.com/opencontainers/runtime-spec/specs-go"

// InitPath is where docker run --init's process 1 is found inside. brig-shim takes this name as the order to be one.
const InitPath = "/sbin/docker-init"

// initProcess puts an init before the main process, unless that lives in a PID namespace that has one.
func initProcess(in *Input, s *specs.Spec) ([]string, error) {
	spec := &in.Jail.Spec
	if spec.Init == nil || !*spec.Init || spec.PidMode == "host" || in.PIDOf != 0 {
		return nil, nil
	}
	s.Process.Args = append([]string{InitPath, "--"}, s.Process.Args...)
	s.Mounts = append(s.Mounts, specs.Mount{
		Destination: InitPath, Type: "bind", Source: in.Host.Shim, Options: []string{"bind", "ro", "rprivate"},
	})
	return nil, nil
}
