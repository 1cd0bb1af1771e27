package dockerapi

import (
	"context"

	"github.com/brigd/brig/internal/errs"
)

// swarmRoutes answer as a daemon outside of any swarm: clients that ask whether there is one get dockerd's 503.
func (s *Server) swarmRoutes() []route {
	rows := []route{
		{"GET", "/swarm", s.notSwarmManager, 24},
		{"POST", "/swarm/init", s.noSwarm, 24},
		{"POST", "/swarm/join", s.noSwarm, 24},
		{"POST", "/swarm/leave", s.notInSwarm, 24},
		{"POST", "/swarm/update", s.notSwarmManager, 24},
		{"GET", "/swarm/unlockkey", s.notSwarmManager, 24},
		{"POST", "/swarm/unlock", s.notInSwarm, 24},
	}
	for _, what := range []string{"nodes", "services", "tasks", "secrets", "configs"} {
		for _, method := range []string{"GET", "POST", "DELETE"} {
			rows = append(rows, route{method, "/" + what + "/{path:.*}", s.notSwarmManager, 24})
		}
		rows = append(rows, route{"GET", "/" + what, s.notSwarmManager, 24})
	}
	return rows
}

func errNotSwarmManager() error {
	return errs.New(errs.Unavailable, `This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node `+
		`to swarm and try again.`)
}

func (s *Server) notSwarmManager(context.Context, *request) (response, error) {
	return nil, errNotSwarmManager()
}

func (s *Server) notInSwarm(context.Context, *request) (response, error) {
	return nil, errs.New(errs.Unavailable, "This node is not part of a swarm")
}

func (s *Server) noSwarm(context.Context, *request) (response, error) {
	return nil, errs.New(errs.NotImplemented, "brig is an engine for one host: it has no swarm mode")
}
