"""mllmrisk: how risky an image generator is, and fast image forensics. Heavy parts load when they are first used."""
