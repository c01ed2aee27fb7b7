"""How far can the network's answers be trusted, before any explanation of them?"""
