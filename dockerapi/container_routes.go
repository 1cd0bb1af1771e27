package dockerapi

// containerRoutes are the rows for containers and execs. A container's name may be written with its leading slash.
func (s *Server) containerRoutes() []route {
	return []route{
		{"GET", "/containers/json", s.containerList, MinVersion},
		{"POST", "/containers/create", s.containerCreate, MinVersion},
		{"POST", "/containers/prune", s.containerPrune, 25},
		{"POST", "/commit", s.containerCommit, MinVersion},

		{"GET", "/containers/{name:.*}/json", s.containerInspect, MinVersion},
		{"GET", "/containers/{name:.*}/top", s.containerTop, MinVersion},
		{"GET", "/containers/{name:.*}/logs", s.containerLogs, MinVersion},
		{"GET", "/containers/{name:.*}/changes", s.containerChanges, MinVersion},
		{"GET", "/containers/{name:.*}/export", s.containerExport, MinVersion},
		{"GET", "/containers/{name:.*}/stats", s.containerStats, MinVersion},
		{"GET", "/containers/{name:.*}/attach/ws", s.containerAttachWS, MinVersion},
		{"POST", "/containers/{name:.*}/attach", s.containerAttach, MinVersion},
		{"POST", "/containers/{name:.*}/start", s.containerStart, MinVersion},
		{"POST", "/containers/{name:.*}/stop", s.containerStop, MinVersion},
		{"POST", "/containers/{name:.*}/restart", s.containerRestart, MinVersion},
		{"POST", "/containers/{name:.*}/kill", s.containerKill, MinVersion},
		{"POST", "/containers/{name:.*}/pause", s.containerPause, MinVersion},
		{"POST", "/containers/{name:.*}/unpause", s.containerUnpause, MinVersion},
		{"POST", "/containers/{name:.*}/wait", s.containerWait, MinVersion},
		{"POST", "/containers/{name:.*}/resize", s.containerResize, MinVersion},
		{"POST", "/containers/{name:.*}/rename", s.containerRename, MinVersion},
		{"POST", "/containers/{name:.*}/update", s.containerUpdate, MinVersion},
		{"DELETE", "/containers/{name:.*}", s.containerRemove, MinVersion},

		{"HEAD", "/containers/{name:.*}/archive", s.archiveStat, MinVersion},
		{"GET", "/containers/{name:.*}/archive", s.archiveGet, MinVersion},
		{"PUT", "/containers/{name:.*}/archive", s.archivePut, MinVersion},

		{"POST", "/containers/{name:.*}/exec", s.execCreate, MinVersion},
		{"POST", "/exec/{id}/start", s.execStart, MinVersion},
		{"POST", "/exec/{id}/resize", s.execResize, MinVersion},
		{"GET", "/exec/{id}/json", s.execInspect, MinVersion},
	}
}
