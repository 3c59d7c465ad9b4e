package qmp

// What the tests look at from outside.
const (
	MaxLine   = maxLine
	MaxScreen = maxScreen
)

var (
	ReadLine = readLine
	Parse    = parse
)
