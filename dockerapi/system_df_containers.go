package dockerapi

import "context"

func (s *Server) containerUsage(ctx context.Context, r *request) (any, error) {
	return []struct{}{}, nil
}
