package slacktest

type stream struct{}

// streaming says whether a native stream owns the message.
func (s *Server) streaming(ts string) bool { return s.streams[ts] != nil }
