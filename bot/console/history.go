package console

// history is the lines that were typed.
type history struct{}
