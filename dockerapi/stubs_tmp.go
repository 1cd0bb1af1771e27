package dockerapi

func (s *Server) systemRoutes() []route  { return nil }
func (s *Server) imageRoutes() []route   { return nil }
func (s *Server) volumeRoutes() []route  { return nil }
func (s *Server) networkRoutes() []route { return nil }
func (s *Server) swarmRoutes() []route   { return nil }
func (s *Server) brigRoutes() []route    { return nil }
