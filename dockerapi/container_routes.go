package dockerapi

func (s *Server) containerRoutes() []route { return nil }
