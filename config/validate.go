package config

func (c *Config) validate(p *problems) {}
